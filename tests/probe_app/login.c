/* A stranger's login window, for tests on real guests: two labelled fields (one hides its text), a button, a log.
 *
 * Build: x86_64-w64-mingw32-gcc -O2 -s -municode -mwindows -o Login.exe login.c
 *
 * It is careless on purpose: at the login it writes account and password into logs\app.log in several encodings, puts
 * the account into its title, and starts itself as helper.exe with the account on the command line.
 */
#include <windows.h>

#include <stdio.h>
#include <wchar.h>

enum { ID_ACCOUNT = 101, ID_PASSWORD, ID_LOGIN };

static wchar_t folder[MAX_PATH];

static void write_bytes(HANDLE file, const void *bytes, size_t size)
{
    DWORD written;
    WriteFile(file, bytes, (DWORD)size, &written, NULL);
}

static void write_text(HANDLE file, UINT code_page, const wchar_t *text)
{
    char bytes[1024];
    int size = WideCharToMultiByte(code_page, 0, text, -1, bytes, sizeof bytes, NULL, NULL);
    write_bytes(file, bytes, size > 0 ? (size_t)size - 1 : 0);
}

static void write_log(const wchar_t *account, const wchar_t *password)
{
    wchar_t path[MAX_PATH], line[512];
    swprintf(path, MAX_PATH, L"%ls\\logs", folder);
    CreateDirectoryW(path, NULL);
    wcscat(path, L"\\app.log");
    HANDLE file = CreateFileW(path, GENERIC_WRITE, FILE_SHARE_READ, NULL, CREATE_ALWAYS, 0, NULL);
    swprintf(line, 512, L"login account=%ls password=%ls\r\n", account, password);
    write_text(file, CP_UTF8, line);
    write_text(file, 949, line);
    write_bytes(file, line, wcslen(line) * sizeof *line);
    write_text(file, CP_UTF8, L"\r\nconnected\r\n");
    CloseHandle(file);
}

static void start_helper(const wchar_t *account)
{
    wchar_t path[MAX_PATH], command[1024];
    STARTUPINFOW startup = {.cb = sizeof startup};
    PROCESS_INFORMATION process;
    swprintf(path, MAX_PATH, L"%ls\\helper.exe", folder);
    swprintf(command, 1024, L"\"%ls\" wait %ls", path, account);
    if (CreateProcessW(path, command, NULL, NULL, FALSE, 0, NULL, NULL, &startup, &process)) {
        CloseHandle(process.hThread);
        CloseHandle(process.hProcess);
    }
}

static void log_in(HWND window)
{
    wchar_t account[128], password[128], title[256];
    GetDlgItemTextW(window, ID_ACCOUNT, account, 128);
    GetDlgItemTextW(window, ID_PASSWORD, password, 128);
    write_log(account, password);
    start_helper(account);
    swprintf(title, 256, L"시험 프로그램 - 접속됨 %ls", account);
    SetWindowTextW(window, title);
}

static void add(HWND window, const wchar_t *class_name, const wchar_t *text, DWORD style, int id, int left, int top)
{
    CreateWindowExW(0, class_name, text, WS_CHILD | WS_VISIBLE | style, left, top, 160, 24, window,
                    (HMENU)(INT_PTR)id, GetModuleHandleW(NULL), NULL);
}

static LRESULT CALLBACK window_proc(HWND window, UINT message, WPARAM wparam, LPARAM lparam)
{
    switch (message) {
    case WM_CREATE:
        add(window, L"STATIC", L"계정(&A)", 0, -1, 10, 10);
        add(window, L"EDIT", L"", WS_BORDER | ES_AUTOHSCROLL, ID_ACCOUNT, 180, 10);
        add(window, L"STATIC", L"비밀번호", 0, -1, 10, 40);
        add(window, L"EDIT", L"", WS_BORDER | ES_PASSWORD, ID_PASSWORD, 180, 40);
        add(window, L"BUTTON", L"로그인", 0, ID_LOGIN, 180, 70);
        return 0;
    case WM_COMMAND:
        if (LOWORD(wparam) == ID_LOGIN)
            log_in(window);
        return 0;
    case WM_DESTROY: PostQuitMessage(0); return 0;
    }
    return DefWindowProcW(window, message, wparam, lparam);
}

int WINAPI wWinMain(HINSTANCE instance, HINSTANCE previous, PWSTR command_line, int show)
{
    MSG message;
    WNDCLASSW class = {.lpfnWndProc = window_proc, .hInstance = instance, .lpszClassName = L"HtsTestLogin"};
    (void)previous;

    if (wcsncmp(command_line, L"wait", 4) == 0) {
        Sleep(INFINITE);
        return 0;
    }
    GetModuleFileNameW(NULL, folder, MAX_PATH);
    *wcsrchr(folder, L'\\') = L'\0';
    RegisterClassW(&class);
    ShowWindow(CreateWindowExW(0, class.lpszClassName, L"시험 프로그램", WS_OVERLAPPEDWINDOW, 40, 40, 420, 200, NULL, NULL,
                               instance, NULL), show);
    while (GetMessageW(&message, NULL, 0, 0) > 0)
        DispatchMessageW(&message);
    return 0;
}
