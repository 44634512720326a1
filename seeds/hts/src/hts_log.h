/* Log file of one program: UTF-8, one line per event, readable by others while we write. */
#ifndef HTS_LOG_H
#define HTS_LOG_H

#include <windows.h>

/* Folder of the running program, with a trailing backslash. */
void hts_install_folder(wchar_t folder[MAX_PATH]);

/* Full path of a file beside the running program. */
void hts_path(wchar_t path[MAX_PATH], const wchar_t *relative);

/* Open (append to) logs\<file_name> in the install folder. Without a log the program still runs. */
void hts_log_open(const wchar_t *file_name);

/* Append one line "<UTC time with milliseconds> <text>". Safe from any thread. */
void hts_log(const wchar_t *format, ...);

#endif
