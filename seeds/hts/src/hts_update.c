/* The updater: asks the patch server for its manifest, replaces each module that is older here.
 *
 * It decides from two lists alone, the server's manifest.txt ("<module> <version> <size> <sha256>") and
 * our modules.txt ("<module> <version>"): an up-to-date module is never opened, hashed or looked at.
 * Only modules named in modules.txt are ever written, so a server cannot place files of its choosing.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>

#include "hts_config.h"
#include "hts_log.h"
#include "hts_update.h"
#include "net_line.h"
#include "sha256.h"

#define TIMEOUT_MS 5000
#define MAX_DOWNLOAD (64 * 1024 * 1024)
#define MAX_MODULES 16
#define LOCAL_LIST L"modules.txt"

typedef struct {
    char name[64];
    char version[32];
} Module;

typedef struct {
    Module module;
    unsigned long size;
    char sha256[65];
} Offer;

typedef struct {
    char *data; /* ends with a zero that is not counted in size */
    size_t size;
} Bytes;

static char server_host[64], server_port[8];
static DWORD last_error; /* Windows error number of what went wrong, told to the program at the end */

/* "1.0.0" or "1.0.0+patch2" as one comparable number. */
static unsigned long long version_rank(const char *version)
{
    unsigned part[4] = {0};
    sscanf(version, "%u.%u.%u+patch%u", &part[0], &part[1], &part[2], &part[3]);
    return (unsigned long long)(part[0] & 0xffff) << 48 | (unsigned long long)(part[1] & 0xffff) << 32 |
           (unsigned long long)(part[2] & 0xffff) << 16 | (part[3] & 0xffff);
}

static void read_config(void)
{
    wchar_t path[MAX_PATH], host[64], port[8];
    hts_path(path, L"hts.ini");
    GetPrivateProfileStringW(L"patch", L"host", L"", host, 64, path);
    GetPrivateProfileStringW(L"patch", L"port", L"", port, 8, path);
    WideCharToMultiByte(CP_UTF8, 0, host, -1, server_host, sizeof server_host, NULL, NULL);
    WideCharToMultiByte(CP_UTF8, 0, port, -1, server_port, sizeof server_port, NULL, NULL);
}

/* Read until the server closes, as HTTP/1.0 does. */
static BOOL receive_all(SOCKET s, Bytes *answer)
{
    size_t room = 64 * 1024;
    answer->data = malloc(room + 1);
    answer->size = 0;
    while (answer->data != NULL) {
        if (net_readable(s, TIMEOUT_MS) <= 0) {
            last_error = WSAETIMEDOUT;
            return FALSE;
        }
        int size = recv(s, answer->data + answer->size, (int)(room - answer->size), 0);
        if (size < 0) {
            last_error = (DWORD)WSAGetLastError();
            return FALSE;
        }
        answer->size += (size_t)size;
        answer->data[answer->size] = '\0';
        if (size == 0)
            return TRUE;
        if (answer->size == room) {
            if (room >= MAX_DOWNLOAD)
                break;
            room *= 2;
            char *larger = realloc(answer->data, room + 1);
            if (larger == NULL)
                break;
            answer->data = larger;
        }
    }
    last_error = ERROR_NOT_ENOUGH_MEMORY;
    return FALSE;
}

/* Keep the body of a "200" answer, in place. */
static BOOL strip_head(Bytes *answer)
{
    char *body = strstr(answer->data, "\r\n\r\n");
    int status = 0;
    if (sscanf(answer->data, "HTTP/1.%*1d %d", &status) != 1 || status != 200 || body == NULL) {
        last_error = ERROR_INVALID_DATA;
        hts_log(L"bad answer status=%d", status);
        return FALSE;
    }
    body += 4;
    answer->size -= (size_t)(body - answer->data);
    memmove(answer->data, body, answer->size + 1);
    return TRUE;
}

static HtsUpdateExit http_get(const char *name, Bytes *answer)
{
    char request[256];
    HtsUpdateExit result = HTS_UPDATE_OK;
    SOCKET s = net_connect(server_host, server_port, TIMEOUT_MS, &last_error);
    if (s == INVALID_SOCKET) {
        hts_log(L"server unreachable error=%lu", last_error);
        return HTS_UPDATE_UNREACHABLE;
    }
    int size = snprintf(request, sizeof request, "GET /%s HTTP/1.0\r\nHost: %s\r\nUser-Agent: %ls/%ls\r\n\r\n", name,
                        server_host, HTS_PRODUCT, HTS_VERSION);
    if (!net_send_all(s, request, size, &last_error) || !receive_all(s, answer)) {
        hts_log(L"transfer failed file=%hs error=%lu", name, last_error);
        result = HTS_UPDATE_UNREACHABLE;
    } else if (!strip_head(answer)) {
        result = HTS_UPDATE_BAD_ANSWER;
    }
    closesocket(s);
    return result;
}

static int read_local_modules(Module modules[MAX_MODULES])
{
    wchar_t path[MAX_PATH];
    char line[256];
    int count = 0;
    hts_path(path, LOCAL_LIST);
    FILE *list = _wfopen(path, L"r");
    if (list == NULL)
        return 0;
    while (count < MAX_MODULES && fgets(line, sizeof line, list) != NULL)
        if (sscanf(line, "%63s %31s", modules[count].name, modules[count].version) == 2)
            count++;
    fclose(list);
    return count;
}

/* Write beside the target, then move over it: a reader sees the old file or the new one, never a part. */
static BOOL replace_file(const wchar_t *name, const char *data, size_t size)
{
    wchar_t path[MAX_PATH], fresh[MAX_PATH], relative[MAX_PATH];
    DWORD written = 0;
    _snwprintf(relative, MAX_PATH, L"%ls.new", name);
    hts_path(path, name);
    hts_path(fresh, relative);

    HANDLE file = CreateFileW(fresh, GENERIC_WRITE, 0, NULL, CREATE_ALWAYS, FILE_ATTRIBUTE_NORMAL, NULL);
    if (file == INVALID_HANDLE_VALUE) {
        last_error = GetLastError();
        return FALSE;
    }
    BOOL ok = WriteFile(file, data, (DWORD)size, &written, NULL) && written == size && FlushFileBuffers(file);
    last_error = ok ? 0 : GetLastError();
    CloseHandle(file);
    if (ok && !MoveFileExW(fresh, path, MOVEFILE_REPLACE_EXISTING | MOVEFILE_WRITE_THROUGH)) {
        last_error = GetLastError();
        ok = FALSE;
    }
    if (!ok)
        DeleteFileW(fresh);
    return ok;
}

static BOOL write_local_modules(const Module *modules, int count)
{
    char text[MAX_MODULES * (sizeof(Module) + 4)];
    int size = 0;
    for (int i = 0; i < count; i++)
        size += sprintf(text + size, "%s %s\n", modules[i].name, modules[i].version);
    return replace_file(LOCAL_LIST, text, (size_t)size);
}

static HtsUpdateExit fetch(const Offer *offer)
{
    Bytes file = {NULL, 0};
    char digest[65] = "";
    wchar_t name[64];
    HtsUpdateExit result = http_get(offer->module.name, &file);
    if (result == HTS_UPDATE_OK) {
        sha256_hex((const unsigned char *)file.data, file.size, digest);
        if (file.size != offer->size || _stricmp(digest, offer->sha256) != 0) {
            last_error = ERROR_CRC;
            hts_log(L"bad hash module=%hs size=%lu sha256=%hs", offer->module.name, (unsigned long)file.size, digest);
            result = HTS_UPDATE_BAD_HASH;
        }
    }
    if (result == HTS_UPDATE_OK) {
        MultiByteToWideChar(CP_UTF8, 0, offer->module.name, -1, name, 64);
        if (!replace_file(name, file.data, file.size)) {
            hts_log(L"write failed module=%hs error=%lu", offer->module.name, last_error);
            result = HTS_UPDATE_WRITE_FAILED;
        }
    }
    free(file.data);
    return result;
}

static HtsUpdateExit apply_offer(const Offer *offer, Module *modules, int count)
{
    Module *ours = NULL;
    for (int i = 0; i < count; i++)
        if (_stricmp(modules[i].name, offer->module.name) == 0)
            ours = &modules[i];
    if (ours == NULL) {
        hts_log(L"ignored module=%hs", offer->module.name);
        return HTS_UPDATE_OK;
    }
    if (version_rank(offer->module.version) <= version_rank(ours->version)) {
        hts_log(L"current module=%hs version=%hs", ours->name, ours->version);
        return HTS_UPDATE_OK;
    }
    hts_log(L"download module=%hs from=%hs to=%hs", ours->name, ours->version, offer->module.version);
    HtsUpdateExit result = fetch(offer);
    if (result != HTS_UPDATE_OK)
        return result;
    strcpy(ours->version, offer->module.version);
    if (!write_local_modules(modules, count)) {
        hts_log(L"write failed list error=%lu", last_error);
        return HTS_UPDATE_WRITE_FAILED;
    }
    hts_log(L"replaced module=%hs version=%hs", ours->name, ours->version);
    return HTS_UPDATE_OK;
}

static HtsUpdateExit update(void)
{
    Module modules[MAX_MODULES];
    Bytes manifest = {NULL, 0};
    int count = read_local_modules(modules);
    if (count == 0 || server_host[0] == '\0' || server_port[0] == '\0') {
        last_error = ERROR_BAD_CONFIGURATION;
        hts_log(L"bad config modules=%d", count);
        return HTS_UPDATE_BAD_CONFIG;
    }
    HtsUpdateExit result = http_get("manifest.txt", &manifest);
    if (result == HTS_UPDATE_OK) {
        for (char *line = strtok(manifest.data, "\r\n"); line && result == HTS_UPDATE_OK; line = strtok(NULL, "\r\n")) {
            Offer offer;
            if (sscanf(line, "%63s %31s %lu %64s", offer.module.name, offer.module.version, &offer.size,
                       offer.sha256) == 4) {
                result = apply_offer(&offer, modules, count);
            } else {
                last_error = ERROR_INVALID_DATA;
                hts_log(L"bad manifest");
                result = HTS_UPDATE_BAD_ANSWER;
            }
        }
    }
    free(manifest.data);
    return result;
}

/* The program that started us reads the Windows error number from our standard output. */
static void tell_parent(void)
{
    char text[32];
    DWORD written;
    HANDLE out = GetStdHandle(STD_OUTPUT_HANDLE);
    int size = sprintf(text, "error=%lu\n", last_error);
    if (out != NULL && out != INVALID_HANDLE_VALUE)
        WriteFile(out, text, (DWORD)size, &written, NULL);
}

int WINAPI wWinMain(HINSTANCE instance, HINSTANCE previous, PWSTR command_line, int show)
{
    WSADATA winsock;
    (void)instance, (void)previous, (void)command_line, (void)show;
    hts_log_open(L"update.log");
    read_config();
    hts_log(L"update begin version=%ls server=%hs:%hs", HTS_VERSION, server_host, server_port);
    last_error = (DWORD)WSAStartup(MAKEWORD(2, 2), &winsock);
    HtsUpdateExit result = last_error == 0 ? update() : HTS_UPDATE_UNREACHABLE;
    if (result == HTS_UPDATE_OK)
        last_error = 0;
    hts_log(L"update end exit=%d error=%lu", (int)result, last_error);
    tell_parent();
    return (int)result;
}
