/* SHA-256 of a byte string. Source: FIPS 180-4. */
#ifndef SHA256_H
#define SHA256_H

#include <stddef.h>

/* Write 64 lower-case hexadecimal digits and a final zero. */
void sha256_hex(const unsigned char *data, size_t size, char hex[65]);

#endif
