/* Text lines over TCP: HELLO, LOGIN, then quotes come by themselves and PING keeps the line alive. */
#include "hts_comm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hts_config.h"
#include "net_line.h"

#define EXPORT __declspec(dllexport)
#define CONNECT_TIMEOUT_MS 5000
#define ANSWER_TIMEOUT_MS 5000
#define HEARTBEAT_MS 2000
#define SILENCE_MS 10000
#define POLL_MS 200

struct HtsCommSession {
    HtsCommConfig config;
    SOCKET socket;
    HANDLE thread;
    HANDLE stop;
    CRITICAL_SECTION send_lock; /* the window sends orders while our thread sends heartbeats */
    char buffer[1024];
    int used;
};

static void tell(HtsCommSession *session, HtsCommEventKind kind, DWORD error, DWORD rtt_ms, const char *text)
{
    HtsCommEvent event = {kind, error, rtt_ms, ""};
    snprintf(event.text, sizeof event.text, "%s", text);
    session->config.sink(session->config.context, &event);
}

static BOOL stopping(const HtsCommSession *session)
{
    return WaitForSingleObject(session->stop, 0) == WAIT_OBJECT_0;
}

/* Take one whole line out of the buffer. */
static BOOL next_line(HtsCommSession *session, char *line, size_t line_size)
{
    char *end = memchr(session->buffer, '\n', (size_t)session->used);
    if (end == NULL)
        return FALSE;
    size_t length = (size_t)(end - session->buffer), kept = length < line_size ? length : line_size - 1;
    memcpy(line, session->buffer, kept);
    line[kept] = '\0';
    if (kept > 0 && line[kept - 1] == '\r')
        line[kept - 1] = '\0';
    session->used -= (int)length + 1;
    memmove(session->buffer, end + 1, (size_t)session->used);
    return TRUE;
}

/* Add what the server has sent, waiting POLL_MS at most. A Windows error number, 0 when the line is well. */
static DWORD receive(HtsCommSession *session, BOOL *received)
{
    *received = FALSE;
    int ready = net_readable(session->socket, POLL_MS);
    if (ready < 0)
        return (DWORD)WSAGetLastError();
    if (ready == 0)
        return 0;
    int room = (int)sizeof session->buffer - session->used;
    if (room == 0)
        return ERROR_INVALID_DATA; /* a "line" longer than any of the protocol */
    int size = recv(session->socket, session->buffer + session->used, room, 0);
    if (size == SOCKET_ERROR)
        return (DWORD)WSAGetLastError();
    if (size == 0)
        return WSAECONNRESET;
    session->used += size;
    *received = TRUE;
    return 0;
}

static DWORD send_line(HtsCommSession *session, const char *line)
{
    char bytes[160];
    DWORD error = 0;
    int size = snprintf(bytes, sizeof bytes, "%s\n", line);
    if (size < 0 || size >= (int)sizeof bytes)
        return ERROR_INVALID_PARAMETER;
    EnterCriticalSection(&session->send_lock);
    net_send_all(session->socket, bytes, size, &error);
    LeaveCriticalSection(&session->send_lock);
    return error;
}

/* Send a line and read its answer; TRUE for "OK ...". Tells the sink why not. */
static BOOL ask(HtsCommSession *session, const char *request)
{
    char line[128];
    BOOL received;
    ULONGLONG deadline = GetTickCount64() + ANSWER_TIMEOUT_MS;
    DWORD error = send_line(session, request);
    while (error == 0 && !next_line(session, line, sizeof line)) {
        if (stopping(session))
            return FALSE;
        if (GetTickCount64() > deadline)
            error = WSAETIMEDOUT;
        else
            error = receive(session, &received);
    }
    if (error != 0)
        tell(session, HTS_COMM_UNREACHABLE, error, 0, "");
    else if (strncmp(line, "ERR ", 4) == 0)
        tell(session, HTS_COMM_REFUSED, 0, 0, line + 4);
    else if (strncmp(line, "OK", 2) == 0)
        return TRUE;
    else
        tell(session, HTS_COMM_REFUSED, 0, 0, line);
    return FALSE;
}

static BOOL log_in(HtsCommSession *session)
{
    char request[128];
    snprintf(request, sizeof request, "HELLO %d %ls", HTS_PROTOCOL, HTS_VERSION);
    if (!ask(session, request))
        return FALSE;
    snprintf(request, sizeof request, "LOGIN %s", session->config.user);
    return ask(session, request);
}

static void stay_connected(HtsCommSession *session)
{
    char line[128];
    DWORD error = 0;
    BOOL received;
    ULONGLONG heard = GetTickCount64(), pinged = heard - HEARTBEAT_MS;

    while (error == 0 && !stopping(session)) {
        ULONGLONG now = GetTickCount64();
        if (now - heard > SILENCE_MS) {
            error = WSAETIMEDOUT;
            break;
        }
        if (now - pinged >= HEARTBEAT_MS) {
            pinged = now;
            error = send_line(session, "PING");
        }
        if (error == 0)
            error = receive(session, &received);
        if (error == 0 && received)
            heard = GetTickCount64();
        while (next_line(session, line, sizeof line)) {
            if (strcmp(line, "PONG") == 0)
                tell(session, HTS_COMM_HEARTBEAT, 0, (DWORD)(GetTickCount64() - pinged), "");
            else
                tell(session, HTS_COMM_LINE, 0, 0, line);
        }
    }
    if (error != 0)
        tell(session, HTS_COMM_LOST, error, 0, "");
}

static DWORD WINAPI session_thread(void *argument)
{
    HtsCommSession *session = argument;
    DWORD error = 0;
    session->socket = net_connect(session->config.host, session->config.port, CONNECT_TIMEOUT_MS, &error);
    if (session->socket == INVALID_SOCKET) {
        tell(session, HTS_COMM_UNREACHABLE, error, 0, "");
    } else if (log_in(session)) {
        tell(session, HTS_COMM_CONNECTED, 0, 0, "");
        stay_connected(session);
    }
    return 0;
}

EXPORT const wchar_t *HtsCommVersion(void)
{
    return HTS_COMM_VERSION;
}

EXPORT int HtsCommProtocol(void)
{
    return HTS_PROTOCOL;
}

EXPORT HtsCommSession *HtsCommStart(const HtsCommConfig *config)
{
    WSADATA winsock;
    int failed = WSAStartup(MAKEWORD(2, 2), &winsock);
    HtsCommSession *session = failed ? NULL : calloc(1, sizeof *session);
    if (session == NULL) {
        SetLastError(failed ? (DWORD)failed : ERROR_OUTOFMEMORY);
        return NULL;
    }
    session->config = *config;
    session->socket = INVALID_SOCKET;
    InitializeCriticalSection(&session->send_lock);
    session->stop = CreateEventW(NULL, TRUE, FALSE, NULL);
    session->thread = CreateThread(NULL, 0, session_thread, session, 0, NULL);
    return session;
}

EXPORT BOOL HtsCommSend(HtsCommSession *session, const char *line)
{
    DWORD error = send_line(session, line);
    SetLastError(error);
    return error == 0;
}

EXPORT void HtsCommStop(HtsCommSession *session)
{
    SetEvent(session->stop);
    WaitForSingleObject(session->thread, CONNECT_TIMEOUT_MS + ANSWER_TIMEOUT_MS);
    if (session->socket != INVALID_SOCKET)
        closesocket(session->socket);
    CloseHandle(session->thread);
    CloseHandle(session->stop);
    DeleteCriticalSection(&session->send_lock);
    free(session);
    WSACleanup();
}
