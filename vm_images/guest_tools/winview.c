/* winview: what a test harness needs to see and press on a Windows desktop, from within the session.
 *
 *   winview list [FILE]                                all visible top-level windows as one JSON array
 *   winview click --window SUBSTRING --button TEXT     press a button, without waiting for what it does
 *   winview fill --window SUBSTRING --label TEXT       set a field's text to what stands on stdin (UTF-8);
 *   winview fill --window SUBSTRING --number N         by the label before it, or by its number from 1
 *   winview close --window SUBSTRING                   ask a window to close (WM_CLOSE)
 *   winview serve                                      a hidden window, and answers to requests on stdin, for ever
 *
 * Exit codes: 0 done, 1 output could not be written, 2 bad command line, 3 no such window, 4 no such button or field,
 * 5 it is disabled, 6 the window does not answer. Output is UTF-8 JSON on stdout.
 *
 * What 'serve' is asked and answers, so that nobody has to start a Windows program for each look (guest/windows.py):
 *   request  one line: its number, then the words of a command line above, UTF-8 in hexadecimal, a blank before each;
 *            a word behind '=' is what the command would read from stdin
 *   answer   one line: the request's number, the exit code, the length of the output; then the output
 *
 * It must never hang, whatever the observed program does: every message that waits for an answer has a limit,
 * and a window that is hung is not asked again. It opens no file of the observed program, and reads no field that hides
 * its text.
 */
#include <windows.h>

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#define ANSWER_MS 200      /* of a window that is looked at, of which there are many */
#define CONTROL_MS 1000    /* of a control among those that one is sought in */
#define MAX_WINDOWS 64
#define MAX_CHILDREN 128
#define MAX_TEXT 1024 /* UTF-16 units of one title or text */

#define MAX_INPUT 4096 /* bytes of a field's new text */
#define MAX_REQUEST 32768 /* bytes of one request to 'serve' */
#define MAX_WORDS 8

enum { DONE, WRITE_FAILED, BAD_USAGE, NO_WINDOW, NO_BUTTON, BUTTON_DISABLED, WINDOW_HUNG };

/* ---- JSON text in memory ---- */

typedef struct {
    char *data;
    size_t size, room;
} Text;

static void append(Text *text, const char *bytes, size_t size)
{
    if (text->size + size > text->room) {
        text->room = (text->size + size) * 2 + 4096;
        text->data = realloc(text->data, text->room);
        if (text->data == NULL)
            ExitProcess(WRITE_FAILED);
    }
    for (size_t i = 0; i < size; i++)
        text->data[text->size++] = bytes[i];
}

static void append_format(Text *text, const char *format, ...)
{
    char piece[256];
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(piece, sizeof piece, format, arguments);
    va_end(arguments);
    if (size > 0)
        append(text, piece, (size_t)size < sizeof piece ? (size_t)size : sizeof piece - 1);
}

/* A JSON string from UTF-16; a surrogate without its partner becomes U+FFFD, so that the output is always UTF-8. */
static void append_string(Text *text, const wchar_t *value)
{
    append(text, "\"", 1);
    for (; *value; value++) {
        unsigned unit = *value;
        char bytes[4];
        if (unit == '"' || unit == '\\') {
            append_format(text, "\\%c", unit);
        } else if (unit < 0x20 || unit == 0x7f) {
            append_format(text, "\\u%04x", unit);
        } else if (unit >= 0xd800 && unit < 0xdc00 && value[1] >= 0xdc00 && value[1] < 0xe000) {
            append(text, bytes, (size_t)WideCharToMultiByte(CP_UTF8, 0, value, 2, bytes, 4, NULL, NULL));
            value++;
        } else {
            wchar_t one = unit >= 0xd800 && unit < 0xe000 ? 0xfffd : (wchar_t)unit;
            append(text, bytes, (size_t)WideCharToMultiByte(CP_UTF8, 0, &one, 1, bytes, 4, NULL, NULL));
        }
    }
    append(text, "\"", 1);
}

static const char *json_bool(BOOL value)
{
    return value ? "true" : "false";
}

/* What one request to 'serve' brings and takes away; NULL: stdin and stdout are meant. */
typedef struct {
    char *input;
    size_t input_size;
    Text output;
} Request;

static Request *served;

/* stdout is written as bytes: the C runtime would change line ends and, on a console, the code page. */
static int print(const Text *text, const wchar_t *path)
{
    DWORD written = 0;
    if (served != NULL && path == NULL) {
        append(&served->output, text->data, text->size);
        return DONE;
    }
    HANDLE out = GetStdHandle(STD_OUTPUT_HANDLE);
    if (path != NULL)
        out = CreateFileW(path, GENERIC_WRITE, FILE_SHARE_READ, NULL, CREATE_ALWAYS, FILE_ATTRIBUTE_NORMAL, NULL);
    BOOL ok = out != INVALID_HANDLE_VALUE && WriteFile(out, text->data, (DWORD)text->size, &written, NULL);
    if (path != NULL && out != INVALID_HANDLE_VALUE)
        CloseHandle(out);
    return ok && written == text->size ? DONE : WRITE_FAILED;
}

/* ---- looking ---- */

static BOOL is_hung(HWND window)
{
    DWORD_PTR answer;
    return IsHungAppWindow(window) ||
           (!SendMessageTimeoutW(window, WM_NULL, 0, 0, SMTO_ABORTIFHUNG | SMTO_BLOCK, ANSWER_MS, &answer) &&
            IsWindow(window));
}

/* The text of a window of another process. FALSE: it did not answer in time. */
static BOOL read_text(HWND window, wchar_t text[MAX_TEXT], BOOL *cut, UINT limit_ms)
{
    DWORD_PTR length = 0, copied = 0;
    text[0] = L'\0';
    if (!SendMessageTimeoutW(window, WM_GETTEXTLENGTH, 0, 0, SMTO_ABORTIFHUNG, limit_ms, &length))
        return FALSE;
    if (!SendMessageTimeoutW(window, WM_GETTEXT, MAX_TEXT, (LPARAM)text, SMTO_ABORTIFHUNG, limit_ms, &copied))
        return FALSE;
    text[copied < MAX_TEXT ? copied : MAX_TEXT - 1] = L'\0';
    /* The length is an upper bound; only a text that fills our room was really cut. */
    if (length >= MAX_TEXT && copied >= MAX_TEXT - 2)
        *cut = TRUE;
    return TRUE;
}

/* What people type into: EDIT, RICHEDIT50W, TEdit, WindowsForms10.EDIT..., ThunderRT6TextBox. */
static BOOL is_field(HWND control)
{
    wchar_t class_name[128] = L"";
    GetClassNameW(control, class_name, 128);
    CharUpperW(class_name);
    return wcsstr(class_name, L"EDIT") != NULL || wcsstr(class_name, L"TEXTBOX") != NULL;
}

static BOOL hides_text(HWND field)
{
    return (GetWindowLongW(field, GWL_STYLE) & ES_PASSWORD) != 0;
}

static void image_path(DWORD pid, wchar_t path[MAX_TEXT])
{
    DWORD size = MAX_TEXT;
    HANDLE process = OpenProcess(PROCESS_QUERY_LIMITED_INFORMATION, FALSE, pid);
    if (process == NULL || !QueryFullProcessImageNameW(process, 0, path, &size))
        path[0] = L'\0';
    if (process != NULL)
        CloseHandle(process);
}

typedef struct {
    Text *out;
    int count;
    BOOL hung, truncated;
} Children;

static BOOL CALLBACK list_child(HWND child, LPARAM parameter)
{
    Children *children = (Children *)parameter;
    wchar_t class_name[128] = L"", text[MAX_TEXT] = L"";
    if (children->count == MAX_CHILDREN) {
        children->truncated = TRUE;
        return FALSE;
    }
    GetClassNameW(child, class_name, 128);
    /* One child without an answer: the rest would cost a time limit each. */
    BOOL read = is_field(child) && hides_text(child);
    read = read || (!children->hung && read_text(child, text, &children->truncated, ANSWER_MS));
    if (!read && IsWindow(child))
        children->hung = TRUE;
    append_format(children->out, "%s{\"class\": ", children->count++ ? ", " : "");
    append_string(children->out, class_name);
    append_format(children->out, ", \"text\": ");
    if (read)
        append_string(children->out, text);
    else
        append_format(children->out, "null");
    append_format(children->out, ", \"id\": %d, \"enabled\": %s, \"visible\": %s}", GetDlgCtrlID(child),
                  json_bool(IsWindowEnabled(child)), json_bool(IsWindowVisible(child)));
    return TRUE;
}

typedef struct {
    HWND handles[MAX_WINDOWS];
    int count, omitted;
} Windows;

static BOOL CALLBACK gather(HWND window, LPARAM parameter)
{
    Windows *windows = (Windows *)parameter;
    if (!IsWindowVisible(window))
        return TRUE;
    if (windows->count < MAX_WINDOWS)
        windows->handles[windows->count++] = window;
    else
        windows->omitted++;
    return TRUE;
}

static void list_window(Text *out, HWND window, int omitted)
{
    wchar_t class_name[128] = L"", title[MAX_TEXT] = L"", path[MAX_TEXT] = L"";
    DWORD pid = 0;
    RECT area = {0};
    Children children = {out, 0, is_hung(window), FALSE};

    GetWindowThreadProcessId(window, &pid);
    GetWindowRect(window, &area);
    GetClassNameW(window, class_name, 128);
    image_path(pid, path);
    /* For a window of another process this reads what the system keeps, without asking the program. */
    if (GetWindowTextW(window, title, MAX_TEXT) >= MAX_TEXT - 1)
        children.truncated = TRUE;
    append_format(out, "{\"hwnd\": %llu, \"pid\": %lu, \"image\": ", (unsigned long long)(ULONG_PTR)window, pid);
    append_string(out, path);
    append_format(out, ", \"class\": ");
    append_string(out, class_name);
    append_format(out, ", \"title\": ");
    append_string(out, title);
    append_format(out, ", \"rect\": [%ld, %ld, %ld, %ld], \"enabled\": %s, \"owner\": %llu, \"children\": [", area.left,
                  area.top, area.right, area.bottom, json_bool(IsWindowEnabled(window)),
                  (unsigned long long)(ULONG_PTR)GetWindow(window, GW_OWNER));
    EnumChildWindows(window, list_child, (LPARAM)&children);
    append_format(out, "], \"hung\": %s, \"truncated\": %s", json_bool(children.hung),
                  json_bool(children.truncated || omitted > 0));
    if (omitted > 0)
        append_format(out, ", \"windows_omitted\": %d", omitted);
    append_format(out, "}");
}

static int list(const wchar_t *path)
{
    Text out = {0};
    Windows windows = {.count = 0};
    EnumWindows(gather, (LPARAM)&windows);
    append_format(&out, "[");
    for (int i = 0; i < windows.count; i++) {
        append_format(&out, i ? ",\n " : "");
        list_window(&out, windows.handles[i], i == windows.count - 1 ? windows.omitted : 0);
    }
    append_format(&out, "]\n");
    int printed = print(&out, path);
    free(out.data);
    return printed;
}

/* ---- acting ---- */

typedef struct {
    const wchar_t *title, *button, *label;
    int number; /* of the field that is wanted; counted down. 0: it is wanted by its label */
    BOOL labelled; /* the last label that was passed is the wanted one */
    HWND window, found;
    BOOL hung; /* a control did not tell its label in time: "no such button" would be a guess */
    BOOL hidden; /* the field that was filled does not show its text */
    wchar_t found_title[MAX_TEXT];
} Search;

/* "&" marks an accelerator and "&&" is an ampersand. */
static BOOL same_label(const wchar_t *label, const wchar_t *wanted)
{
    for (; *label; label++) {
        if (*label == L'&' && *++label == L'\0')
            break;
        if (*label != *wanted++)
            return FALSE;
    }
    return *wanted == L'\0';
}

static BOOL CALLBACK match_button(HWND child, LPARAM parameter)
{
    Search *search = (Search *)parameter;
    wchar_t class_name[128], text[MAX_TEXT];
    BOOL cut = FALSE;
    if (!GetClassNameW(child, class_name, 128) || _wcsicmp(class_name, L"Button") != 0 || !IsWindowVisible(child))
        return TRUE;
    if (!read_text(child, text, &cut, CONTROL_MS)) {
        search->hung = IsWindow(child);
        return !search->hung;
    }
    if (!same_label(text, search->button))
        return TRUE;
    search->found = child;
    return FALSE;
}

/* Controls come in the order of the tab key, so that a field follows its label, as screen readers have it. */
static BOOL CALLBACK match_field(HWND child, LPARAM parameter)
{
    Search *search = (Search *)parameter;
    wchar_t class_name[128] = L"", text[MAX_TEXT];
    BOOL cut = FALSE;
    if (!IsWindowVisible(child))
        return TRUE;
    if (is_field(child)) {
        if (search->label != NULL ? search->labelled : --search->number == 0)
            search->found = child;
        search->labelled = FALSE;
        return search->found == NULL;
    }
    GetClassNameW(child, class_name, 128);
    if (search->label == NULL || _wcsicmp(class_name, L"Static") != 0)
        return TRUE;
    if (!read_text(child, text, &cut, CONTROL_MS)) {
        search->hung = IsWindow(child);
        return !search->hung;
    }
    search->labelled = same_label(text, search->label);
    return TRUE;
}

/* Several windows may match (a program and its dialog): the first from the top that has the control is taken. */
static BOOL CALLBACK match_window(HWND window, LPARAM parameter)
{
    Search *search = (Search *)parameter;
    wchar_t title[MAX_TEXT] = L"";
    if (!IsWindowVisible(window))
        return TRUE;
    GetWindowTextW(window, title, MAX_TEXT);
    if (wcsstr(title, search->title) == NULL)
        return TRUE;
    BOOL wants_field = search->label != NULL || search->number > 0;
    if (search->window == NULL || search->button != NULL || wants_field)
        wcscpy(search->found_title, title);
    search->window = window;
    if (search->button == NULL && !wants_field)
        return FALSE;
    search->labelled = FALSE;
    int number = search->number;
    EnumChildWindows(window, wants_field ? match_field : match_button, parameter);
    if (search->found == NULL)
        search->number = number;
    return search->found == NULL && !search->hung;
}

static int report(const char *result, const Search *search, int exit_code)
{
    Text out = {0};
    append_format(&out, "{\"result\": \"%s\", \"window\": ", result);
    if (search->window != NULL) {
        append_string(&out, search->found_title);
        append_format(&out, ", \"hwnd\": %llu, \"hidden\": %s}\n", (unsigned long long)(ULONG_PTR)search->window,
                      json_bool(search->hidden));
    } else {
        append_format(&out, "null, \"hwnd\": null, \"hidden\": false}\n");
    }
    int written = print(&out, NULL);
    free(out.data);
    return written == DONE ? exit_code : written;
}

static int click(const wchar_t *title, const wchar_t *button)
{
    Search search = {.title = title, .button = button};
    EnumWindows(match_window, (LPARAM)&search);
    if (search.window == NULL)
        return report("no_such_window", &search, NO_WINDOW);
    if (search.hung)
        return report("window_hung", &search, WINDOW_HUNG);
    if (search.found == NULL)
        return report("no_such_button", &search, NO_BUTTON);
    /* A modal dialog disables its owner: its buttons look enabled and would still react to a message. */
    if (!IsWindowEnabled(search.found) || !IsWindowEnabled(search.window))
        return report("button_disabled", &search, BUTTON_DISABLED);
    /* Posted, not sent: what the button starts (a modal dialog, a long job) must not keep us. */
    PostMessageW(search.found, BM_CLICK, 0, 0);
    return report("clicked", &search, DONE);
}

/* All of stdin as UTF-16. FALSE: it is too long, or no UTF-8. */
static BOOL read_input(wchar_t text[MAX_INPUT + 1])
{
    char bytes[MAX_INPUT + 1];
    DWORD size = 0, used = 0;
    if (served != NULL) {
        used = served->input_size < sizeof bytes ? (DWORD)served->input_size : sizeof bytes;
        memcpy(bytes, served->input, used);
    }
    while (served == NULL && used < sizeof bytes && ReadFile(GetStdHandle(STD_INPUT_HANDLE), bytes + used, sizeof bytes - used, &size, NULL) &&
           size > 0)
        used += size;
    int units = used == 0 ? 0 : MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, bytes, (int)used, text, MAX_INPUT);
    SecureZeroMemory(bytes, sizeof bytes);
    text[units] = L'\0';
    return used <= MAX_INPUT && (units > 0 || used == 0);
}

static int fill(const wchar_t *title, const wchar_t *label, int number)
{
    Search search = {.title = title, .label = label, .number = number};
    wchar_t text[MAX_INPUT + 1];
    DWORD_PTR answer;
    if (!read_input(text))
        return BAD_USAGE;
    EnumWindows(match_window, (LPARAM)&search);
    if (search.window == NULL)
        return report("no_such_window", &search, NO_WINDOW);
    if (search.hung)
        return report("window_hung", &search, WINDOW_HUNG);
    if (search.found == NULL)
        return report("no_such_field", &search, NO_BUTTON);
    if (!IsWindowEnabled(search.found) || !IsWindowEnabled(search.window))
        return report("field_disabled", &search, BUTTON_DISABLED);
    BOOL set = SendMessageTimeoutW(search.found, WM_SETTEXT, 0, (LPARAM)text, SMTO_ABORTIFHUNG, CONTROL_MS, &answer) != 0;
    SecureZeroMemory(text, sizeof text);
    if (!set)
        return report("window_hung", &search, WINDOW_HUNG);
    search.hidden = hides_text(search.found);
    return report("filled", &search, DONE);
}

static int close_window(const wchar_t *title)
{
    Search search = {.title = title};
    EnumWindows(match_window, (LPARAM)&search);
    if (search.window == NULL)
        return report("no_such_window", &search, NO_WINDOW);
    PostMessageW(search.window, WM_CLOSE, 0, 0);
    return report("closing", &search, DONE);
}

/* ---- command line ---- */

static const wchar_t *option(int count, wchar_t **arguments, const wchar_t *name)
{
    for (int i = 2; i + 1 < count; i += 2)
        if (wcscmp(arguments[i], name) == 0 && arguments[i + 1][0] != L'\0')
            return arguments[i + 1];
    return NULL;
}

/* Do what a command line asks for; BAD_USAGE when it asks for nothing that there is. */
static int do_command(int count, wchar_t **arguments)
{
    const wchar_t *command = count > 1 ? arguments[1] : L"";
    const wchar_t *window = option(count, arguments, L"--window"), *button = option(count, arguments, L"--button");
    const wchar_t *label = option(count, arguments, L"--label"), *which = option(count, arguments, L"--number");
    int number = which != NULL ? _wtoi(which) : 0;

    if (wcscmp(command, L"list") == 0 && count <= 3)
        return list(count == 3 ? arguments[2] : NULL);
    if (wcscmp(command, L"click") == 0 && count == 6 && window && button)
        return click(window, button);
    if (wcscmp(command, L"fill") == 0 && count == 6 && window && (label || number > 0))
        return fill(window, label, label ? 0 : number);
    if (wcscmp(command, L"close") == 0 && count == 4 && window)
        return close_window(window);
    return BAD_USAGE;
}

/* ---- answering requests, for ever ---- */

static int digit(char c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Hexadecimal to bytes, in place; the number of bytes, -1 when it is none. */
static int from_hex(char *text)
{
    int size = 0;
    for (; text[2 * size] != '\0'; size++) {
        int high = digit(text[2 * size]), low = high < 0 ? -1 : digit(text[2 * size + 1]);
        if (low < 0)
            return -1;
        text[size] = (char)(high << 4 | low);
    }
    return size;
}

static BOOL write_all(const char *data, size_t size)
{
    DWORD written = 0;
    for (; size > 0; data += written, size -= written)
        if (!WriteFile(GetStdHandle(STD_OUTPUT_HANDLE), data, (DWORD)size, &written, NULL) || written == 0)
            return FALSE;
    return TRUE;
}

/* Answer one line. FALSE: it is no request, or nobody takes the answer. */
static BOOL answer_request(char *line)
{
    static wchar_t words[MAX_WORDS][MAX_INPUT + 1];
    wchar_t *arguments[MAX_WORDS + 1] = {L"winview"};
    Request request = {0};
    char head[64], *number = strtok(line, " "), *piece;
    int count = 1;
    while (number != NULL && (piece = strtok(NULL, " ")) != NULL) {
        BOOL is_input = piece[0] == '=';
        int size = from_hex(piece + is_input);
        if (size < 0 || count > MAX_WORDS)
            return FALSE;
        if (is_input) {
            request.input = piece + 1;
            request.input_size = (size_t)size;
            continue;
        }
        int units = size == 0 ? 0 : MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, piece, size, words[count - 1], MAX_INPUT);
        words[count - 1][units] = L'\0';
        arguments[count] = words[count - 1];
        count++;
    }
    if (number == NULL)
        return FALSE;
    served = &request;
    int code = do_command(count, arguments);
    served = NULL;
    snprintf(head, sizeof head, "%.20s %d %lu\n", number, code, (unsigned long)request.output.size);
    BOOL told = write_all(head, strlen(head)) && write_all(request.output.data, request.output.size);
    free(request.output.data);
    return told;
}

static DWORD WINAPI answer_requests(void *unused)
{
    static char line[MAX_REQUEST];
    size_t used = 0;
    DWORD size;
    (void)unused;
    for (;;) {
        char *end = memchr(line, '\n', used);
        if (end != NULL) {
            size_t taken = (size_t)(end + 1 - line);
            *end = '\0';
            if (!answer_request(line))
                break;
            memmove(line, line + taken, used - taken);
            used -= taken;
            SecureZeroMemory(line + used, sizeof line - used); /* a request may hold a secret */
        } else if (used == sizeof line ||
                   !ReadFile(GetStdHandle(STD_INPUT_HANDLE), line + used, (DWORD)(sizeof line - used), &size, NULL) || size == 0) {
            break;
        } else {
            used += size;
        }
    }
    ExitProcess(WRITE_FAILED);
}

/* The window's thread answers whoever sends to all windows; the other one asks windows, and may wait for them. */
static int serve(void)
{
    MSG message;
    CreateWindowExW(0, L"STATIC", L"winview resident", 0, 0, 0, 0, 0, NULL, NULL, GetModuleHandleW(NULL), NULL);
    if (CreateThread(NULL, 0, answer_requests, NULL, 0, NULL) == NULL)
        return WRITE_FAILED;
    while (GetMessageW(&message, NULL, 0, 0) > 0)
        DispatchMessageW(&message);
    return DONE;
}

int wmain(int count, wchar_t **arguments)
{
    if (count == 2 && wcscmp(arguments[1], L"serve") == 0)
        return serve();
    int code = do_command(count, arguments);
    if (code == BAD_USAGE)
        fputs("usage: winview list [FILE] | click --window SUBSTRING --button TEXT | fill --window SUBSTRING (--label TEXT |"
              " --number N) | close --window SUBSTRING | serve\n",
              stderr);
    return code;
}
