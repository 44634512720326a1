#include "net_line.h"

#include <ws2tcpip.h>

static struct timeval interval(DWORD ms)
{
    struct timeval value = {(long)(ms / 1000), (long)(ms % 1000 * 1000)};
    return value;
}

/* A blocking connect() may take 20 s and more against a silent host: connect without blocking, then wait. */
static DWORD connect_within(SOCKET s, const struct addrinfo *address, DWORD timeout_ms)
{
    u_long yes = 1, no = 0;
    fd_set writable, failed;
    struct timeval limit = interval(timeout_ms);
    int error = 0, length = sizeof error;

    ioctlsocket(s, FIONBIO, &yes);
    if (connect(s, address->ai_addr, (int)address->ai_addrlen) != 0) {
        if (WSAGetLastError() != WSAEWOULDBLOCK)
            return (DWORD)WSAGetLastError();
        FD_ZERO(&writable);
        FD_ZERO(&failed);
        FD_SET(s, &writable);
        FD_SET(s, &failed);
        int ready = select(0, NULL, &writable, &failed, &limit);
        if (ready == 0)
            return WSAETIMEDOUT;
        if (ready < 0)
            return (DWORD)WSAGetLastError();
        getsockopt(s, SOL_SOCKET, SO_ERROR, (char *)&error, &length);
        if (error != 0 || FD_ISSET(s, &failed))
            return error != 0 ? (DWORD)error : WSAECONNREFUSED;
    }
    ioctlsocket(s, FIONBIO, &no);
    return 0;
}

SOCKET net_connect(const char *host, const char *port, DWORD timeout_ms, DWORD *error)
{
    struct addrinfo hints = {0}, *addresses = NULL;
    hints.ai_family = AF_INET;
    hints.ai_socktype = SOCK_STREAM;
    int resolved = getaddrinfo(host, port, &hints, &addresses);
    if (resolved != 0) {
        *error = (DWORD)resolved;
        return INVALID_SOCKET;
    }
    SOCKET s = socket(addresses->ai_family, addresses->ai_socktype, addresses->ai_protocol);
    *error = s == INVALID_SOCKET ? (DWORD)WSAGetLastError() : connect_within(s, addresses, timeout_ms);
    freeaddrinfo(addresses);
    if (*error != 0 && s != INVALID_SOCKET) {
        closesocket(s);
        s = INVALID_SOCKET;
    }
    return s;
}

int net_readable(SOCKET socket, DWORD timeout_ms)
{
    fd_set readable;
    struct timeval limit = interval(timeout_ms);
    FD_ZERO(&readable);
    FD_SET(socket, &readable);
    return select(0, &readable, NULL, NULL, &limit);
}

BOOL net_send_all(SOCKET socket, const char *data, int size, DWORD *error)
{
    while (size > 0) {
        int sent = send(socket, data, size, 0);
        if (sent == SOCKET_ERROR) {
            *error = (DWORD)WSAGetLastError();
            return FALSE;
        }
        data += sent;
        size -= sent;
    }
    return TRUE;
}
