/* Moves the wall clock of one program by the seconds in a file, which may change while the program runs. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    const char *path = getenv("TEST_CLOCK_OFFSET");
    if (result != 0 || clock != CLOCK_REALTIME || !path) return result;
    FILE *file = fopen(path, "r");
    long offset = 0;
    if (file) {
        if (fscanf(file, "%ld", &offset) != 1) offset = 0;
        fclose(file);
    }
    now->tv_sec += offset;
    return result;
}
