/* TCP with a limit on every wait, shared by the connection DLL and the updater. */
#ifndef NET_LINE_H
#define NET_LINE_H

#include <winsock2.h>
#include <windows.h>

/* Connect within timeout_ms. INVALID_SOCKET on failure, *error then holds the Windows error number. */
SOCKET net_connect(const char *host, const char *port, DWORD timeout_ms, DWORD *error);

/* 1: readable (or closed by the peer), 0: nothing yet, -1: failed. */
int net_readable(SOCKET socket, DWORD timeout_ms);

/* Send everything; FALSE with *error on failure. */
BOOL net_send_all(SOCKET socket, const char *data, int size, DWORD *error);

#endif
