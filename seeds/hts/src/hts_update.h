/* How the updater ends. The program shows the number, a test harness tells the causes apart by it. */
#ifndef HTS_UPDATE_H
#define HTS_UPDATE_H

typedef enum {
    HTS_UPDATE_OK = 0,
    HTS_UPDATE_BAD_CONFIG = 10,
    HTS_UPDATE_UNREACHABLE = 11,
    HTS_UPDATE_BAD_ANSWER = 12,
    HTS_UPDATE_BAD_HASH = 13,
    HTS_UPDATE_WRITE_FAILED = 14
} HtsUpdateExit;

#endif
