/* A stranger's program that asks a server for one thing, for tests on real guests: by WinINet, by WinHTTP, or by a socket.
 *
 * Build: x86_64-w64-mingw32-gcc -O2 -s -o reach.exe reach.c -lwininet -lwinhttp -lws2_32
 *
 * reach.exe inet|http|tcp HOST PORT: writes what came back, or 'failed' and the error's number. It knows of no proxy:
 * the first two ask Windows for the user's, the last has none.
 */
#include <winsock2.h>
#include <ws2tcpip.h>
#include <windows.h>
#include <winhttp.h>

#include <stdio.h>
#include <stdlib.h>

/* wininet.h cannot stand beside winhttp.h. */
__declspec(dllimport) void *__stdcall InternetOpenA(const char *, DWORD, const char *, const char *, DWORD);
__declspec(dllimport) void *__stdcall InternetOpenUrlA(void *, const char *, const char *, DWORD, DWORD, DWORD_PTR);
__declspec(dllimport) BOOL __stdcall InternetReadFile(void *, void *, DWORD, DWORD *);

static int failed(const char *what, DWORD error)
{
    printf("failed %s %lu\n", what, (unsigned long)error);
    return 1;
}

static int by_inet(const char *host, const char *port)
{
    char url[512], piece[4096];
    DWORD size = 0;
    snprintf(url, sizeof url, "http://%s:%s/", host, port);
    void *session = InternetOpenA("reach", 0, NULL, NULL, 0);
    void *request = InternetOpenUrlA(session, url, NULL, 0, 0x80000000 /* INTERNET_FLAG_RELOAD */, 0);
    if (!request)
        return failed("inet", GetLastError());
    while (InternetReadFile(request, piece, sizeof piece, &size) && size)
        fwrite(piece, 1, size, stdout);
    return 0;
}

static int by_http(const char *host, const char *port)
{
    wchar_t name[256];
    char piece[4096];
    DWORD size = 0;
    MultiByteToWideChar(CP_UTF8, 0, host, -1, name, 256);
    HINTERNET session = WinHttpOpen(L"reach", WINHTTP_ACCESS_TYPE_DEFAULT_PROXY, NULL, NULL, 0);
    HINTERNET there = WinHttpConnect(session, name, (INTERNET_PORT)atoi(port), 0);
    HINTERNET request = WinHttpOpenRequest(there, L"GET", L"/", NULL, NULL, NULL, 0);
    if (!WinHttpSendRequest(request, NULL, 0, NULL, 0, 0, 0) || !WinHttpReceiveResponse(request, NULL))
        return failed("http", GetLastError());
    while (WinHttpReadData(request, piece, sizeof piece, &size) && size)
        fwrite(piece, 1, size, stdout);
    return 0;
}

static int by_tcp(const char *host, const char *port)
{
    WSADATA data;
    struct addrinfo *found = NULL;
    char piece[4096];
    int size;
    WSAStartup(MAKEWORD(2, 2), &data);
    if (getaddrinfo(host, port, NULL, &found))
        return failed("name", (DWORD)WSAGetLastError());
    SOCKET there = socket(found->ai_family, SOCK_STREAM, 0);
    if (connect(there, found->ai_addr, (int)found->ai_addrlen))
        return failed("tcp", (DWORD)WSAGetLastError());
    send(there, "GET / HTTP/1.0\r\n\r\n", 18, 0);
    while ((size = recv(there, piece, sizeof piece, 0)) > 0)
        fwrite(piece, 1, (size_t)size, stdout);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc != 4)
        return 2;
    switch (argv[1][0]) {
    case 'i':
        return by_inet(argv[2], argv[3]);
    case 'h':
        return by_http(argv[2], argv[3]);
    default:
        return by_tcp(argv[2], argv[3]);
    }
}
