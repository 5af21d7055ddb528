#include <mosquitto.h>
#include <mqtt_protocol.h>

/* What a poll loop around libmosquitto needs of Linux, and Swift's Glibc module leaves out. */
#include <sys/eventfd.h>
#include <sys/prctl.h>

/* The calling thread's name, as top and gdb show it; at most 15 bytes. */
static inline void cmosquitto_name_thread(const char *name) { prctl(PR_SET_NAME, name, 0, 0, 0); }
