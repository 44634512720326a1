#include "hts_log.h"

#include <stdarg.h>
#include <stdio.h>
#include <wchar.h>

#define LINE_CHARS 1024

static HANDLE log_file = INVALID_HANDLE_VALUE;

void hts_install_folder(wchar_t folder[MAX_PATH])
{
    DWORD length = GetModuleFileNameW(NULL, folder, MAX_PATH);
    while (length > 0 && folder[length - 1] != L'\\')
        length--;
    folder[length] = L'\0';
}

void hts_path(wchar_t path[MAX_PATH], const wchar_t *relative)
{
    wchar_t folder[MAX_PATH];
    hts_install_folder(folder);
    if (_snwprintf(path, MAX_PATH, L"%ls%ls", folder, relative) < 0)
        path[0] = L'\0';
    path[MAX_PATH - 1] = L'\0';
}

void hts_log_open(const wchar_t *file_name)
{
    wchar_t path[MAX_PATH], relative[MAX_PATH];
    hts_path(path, L"logs");
    CreateDirectoryW(path, NULL);
    _snwprintf(relative, MAX_PATH, L"logs\\%ls", file_name);
    relative[MAX_PATH - 1] = L'\0';
    hts_path(path, relative);
    log_file = CreateFileW(path, FILE_APPEND_DATA, FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE,
                           NULL, OPEN_ALWAYS, FILE_ATTRIBUTE_NORMAL, NULL);
}

void hts_log(const wchar_t *format, ...)
{
    wchar_t line[LINE_CHARS];
    char bytes[LINE_CHARS * 3];
    SYSTEMTIME now;
    DWORD written;
    va_list arguments;

    if (log_file == INVALID_HANDLE_VALUE)
        return;
    GetSystemTime(&now);
    int length = _snwprintf(line, LINE_CHARS, L"%04u-%02u-%02uT%02u:%02u:%02u.%03uZ ", now.wYear, now.wMonth,
                            now.wDay, now.wHour, now.wMinute, now.wSecond, now.wMilliseconds);
    va_start(arguments, format);
    int added = _vsnwprintf(line + length, LINE_CHARS - 2 - length, format, arguments);
    va_end(arguments);
    length = added < 0 ? LINE_CHARS - 2 : length + added;
    line[length++] = L'\n';
    int size = WideCharToMultiByte(CP_UTF8, 0, line, length, bytes, sizeof bytes, NULL, NULL);
    /* One WriteFile per line: there is no buffer of ours to flush, a reader sees each line at once
       and two threads never mix theirs. */
    WriteFile(log_file, bytes, (DWORD)size, &written, NULL);
}
