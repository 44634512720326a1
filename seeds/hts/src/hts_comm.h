/* The connection to the trading server, in a DLL that is loaded only when connecting. */
#ifndef HTS_COMM_H
#define HTS_COMM_H

#include <windows.h>

typedef enum {
    HTS_COMM_CONNECTED,
    HTS_COMM_UNREACHABLE, /* error: Windows error number */
    HTS_COMM_REFUSED,     /* text: the server's reason */
    HTS_COMM_LINE,        /* text: a quote or an order's answer */
    HTS_COMM_HEARTBEAT,   /* rtt_ms */
    HTS_COMM_LOST         /* error: Windows error number */
} HtsCommEventKind;

typedef struct {
    HtsCommEventKind kind;
    DWORD error;
    DWORD rtt_ms;
    char text[128];
} HtsCommEvent;

/* Called in the connection's own thread. */
typedef void (*HtsCommSink)(void *context, const HtsCommEvent *event);

typedef struct {
    char host[64];
    char port[8];
    char user[32];
    HtsCommSink sink;
    void *context;
} HtsCommConfig;

typedef struct HtsCommSession HtsCommSession;

/* Exported by name; the program asks for them with GetProcAddress. */
typedef const wchar_t *(*HtsCommVersionFn)(void);
typedef int (*HtsCommProtocolFn)(void);
typedef HtsCommSession *(*HtsCommStartFn)(const HtsCommConfig *config); /* NULL: see GetLastError */
typedef BOOL (*HtsCommSendFn)(HtsCommSession *session, const char *line);
typedef void (*HtsCommStopFn)(HtsCommSession *session);

#endif
