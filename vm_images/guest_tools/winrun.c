/* winrun.exe FOLDER: run one Windows program and write down its full 32-bit exit code.
 *
 * Why: a Linux parent of a wine process sees only the lowest 8 bits of the exit code, so 0xC0000005 becomes 5.
 * FOLDER holds command.txt and, when wanted, cwd.txt (UTF-16LE without a byte order mark). Written into it:
 *   started.json  {"windows_pid": N} or {"error": GetLastError of CreateProcess}
 *   exit.json     {"exit_code": N} (unsigned) or {"error": N}
 * Each appears whole (written under another name, then renamed). The command line reaches the program untouched.
 *
 * Build: x86_64-w64-mingw32-gcc -O2 -s -municode -mwindows -Wl,--no-insert-timestamp -o winrun.exe winrun.c
 */
#include <windows.h>
#include <stdio.h>
#include <stdlib.h>

static wchar_t folder[1024];

static void path_in_folder(wchar_t *out, size_t size, const wchar_t *name)
{
    _snwprintf(out, size, L"%ls\\%ls", folder, name);
    out[size - 1] = 0;
}

/* Read a whole UTF-16LE file as a string; NULL when it is not there. */
static wchar_t *read_text(const wchar_t *name)
{
    wchar_t path[1100];
    wchar_t *text = NULL;
    DWORD size, got = 0;
    HANDLE file;

    path_in_folder(path, 1100, name);
    file = CreateFileW(path, GENERIC_READ, FILE_SHARE_READ, NULL, OPEN_EXISTING, 0, NULL);
    if (file == INVALID_HANDLE_VALUE)
        return NULL;
    size = GetFileSize(file, NULL);
    if (size < 131072 && (text = calloc(1, size + sizeof(wchar_t))) != NULL)
        if (!ReadFile(file, text, size, &got, NULL) || got != size) {
            free(text);
            text = NULL;
        }
    CloseHandle(file);
    return text;
}

static void write_fact(const wchar_t *name, const char *key, DWORD value)
{
    wchar_t path[1100], partial[1100];
    char line[64];
    DWORD written;
    HANDLE file;
    int length = snprintf(line, sizeof line, "{\"%s\": %lu}\n", key, value);

    path_in_folder(path, 1100, name);
    path_in_folder(partial, 1100, L"partial.json");
    file = CreateFileW(partial, GENERIC_WRITE, 0, NULL, CREATE_ALWAYS, 0, NULL);
    if (file == INVALID_HANDLE_VALUE)
        return;
    WriteFile(file, line, length, &written, NULL);
    CloseHandle(file);
    MoveFileExW(partial, path, MOVEFILE_REPLACE_EXISTING);
}

int WINAPI wWinMain(HINSTANCE instance, HINSTANCE previous, PWSTR tail, int show)
{
    STARTUPINFOW startup = {.cb = sizeof startup};
    PROCESS_INFORMATION process;
    wchar_t *command, *cwd;
    DWORD code = 0;
    (void)instance, (void)previous, (void)tail, (void)show;

    if (__argc != 2)
        return 2;
    wcsncpy(folder, __wargv[1], 1023);
    command = read_text(L"command.txt");
    cwd = read_text(L"cwd.txt");
    if (command == NULL) {
        write_fact(L"started.json", "error", ERROR_FILE_NOT_FOUND);
        return 3;
    }
    /* Standard handles are inherited, so that console output lands in the files that the starter opened. */
    startup.dwFlags = STARTF_USESTDHANDLES;
    startup.hStdInput = GetStdHandle(STD_INPUT_HANDLE);
    startup.hStdOutput = GetStdHandle(STD_OUTPUT_HANDLE);
    startup.hStdError = GetStdHandle(STD_ERROR_HANDLE);
    if (!CreateProcessW(NULL, command, NULL, NULL, TRUE, 0, NULL, cwd, &startup, &process)) {
        write_fact(L"started.json", "error", GetLastError());
        return 4;
    }
    write_fact(L"started.json", "windows_pid", process.dwProcessId);
    WaitForSingleObject(process.hProcess, INFINITE);
    if (GetExitCodeProcess(process.hProcess, &code))
        write_fact(L"exit.json", "exit_code", code);
    else
        write_fact(L"exit.json", "error", GetLastError());
    return 0;
}
