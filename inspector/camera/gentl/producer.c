/* A simulated GenICam camera behind GenTL 1.6: opened by any consumer, it exposes the pictures that `stage.py` shows.
 *
 * From bottom to top:
 *   GenTL      what is used here of the standard's constants and structures
 *   Stage      the shared memory with the pictures, the fault switches and the counters: the world before the lens
 *   Handles    what the consumer holds; a stale or foreign one is found out, never followed
 *   Pixels     8 bit RGB or grey becomes any pixel format
 *   Camera     registers, triggers, exposure: the remote device, described by camera.xml
 *   Stream     buffers, and how frames reach them
 *   Modules    system, interface, device, events
 *   Exports    the 64 functions: take the lock, call, remember the error
 *
 * One lock guards everything, one condition variable says that something changed; pictures are converted and copied
 * outside the lock. A function that waits finds its handle again afterwards, for it may have been closed meanwhile.
 */
#define _GNU_SOURCE /* open file description locks, dladdr */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

_Static_assert(sizeof(void *) == 8, "handles and shared memory need a 64 bit machine");
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "registers and pixels are little-endian");

/* ---------------------------------------------------------------------------------------------------- GenTL ------ */

typedef int32_t GC_ERROR;
typedef uint8_t bool8_t;

enum {
    GC_ERR_SUCCESS = 0, GC_ERR_ERROR = -1001, GC_ERR_NOT_INITIALIZED = -1002, GC_ERR_NOT_IMPLEMENTED = -1003,
    GC_ERR_RESOURCE_IN_USE = -1004, GC_ERR_ACCESS_DENIED = -1005, GC_ERR_INVALID_HANDLE = -1006,
    GC_ERR_INVALID_ID = -1007, GC_ERR_INVALID_PARAMETER = -1009, GC_ERR_IO = -1010, GC_ERR_TIMEOUT = -1011,
    GC_ERR_ABORT = -1012, GC_ERR_NOT_AVAILABLE = -1014, GC_ERR_INVALID_ADDRESS = -1015,
    GC_ERR_BUFFER_TOO_SMALL = -1016, GC_ERR_INVALID_INDEX = -1017, GC_ERR_INVALID_VALUE = -1019,
    GC_ERR_OUT_OF_MEMORY = -1021, GC_ERR_BUSY = -1022,

    INFO_DATATYPE_STRING = 1, INFO_DATATYPE_INT32 = 5, INFO_DATATYPE_UINT32 = 6, INFO_DATATYPE_UINT64 = 8,
    INFO_DATATYPE_PTR = 10, INFO_DATATYPE_BOOL8 = 11, INFO_DATATYPE_SIZET = 12,

    TL_INFO_ID = 0, TL_INFO_VENDOR = 1, TL_INFO_MODEL = 2, TL_INFO_VERSION = 3, TL_INFO_TLTYPE = 4, TL_INFO_NAME = 5,
    TL_INFO_PATHNAME = 6, TL_INFO_DISPLAYNAME = 7, TL_INFO_CHAR_ENCODING = 8, TL_INFO_GENTL_VER_MAJOR = 9,
    TL_INFO_GENTL_VER_MINOR = 10, TL_CHAR_ENCODING_UTF8 = 1,

    INTERFACE_INFO_ID = 0, INTERFACE_INFO_DISPLAYNAME = 1, INTERFACE_INFO_TLTYPE = 2,

    DEVICE_ACCESS_READONLY = 2, DEVICE_ACCESS_CONTROL = 3, DEVICE_ACCESS_EXCLUSIVE = 4,
    DEVICE_ACCESS_STATUS_READWRITE = 1, DEVICE_ACCESS_STATUS_NOACCESS = 3, DEVICE_ACCESS_STATUS_BUSY = 4,
    DEVICE_ACCESS_STATUS_OPEN_READWRITE = 5,

    DEVICE_INFO_ID = 0, DEVICE_INFO_VENDOR = 1, DEVICE_INFO_MODEL = 2, DEVICE_INFO_TLTYPE = 3,
    DEVICE_INFO_DISPLAYNAME = 4, DEVICE_INFO_ACCESS_STATUS = 5, DEVICE_INFO_USER_DEFINED_NAME = 6,
    DEVICE_INFO_SERIAL_NUMBER = 7, DEVICE_INFO_VERSION = 8, DEVICE_INFO_TIMESTAMP_FREQUENCY = 9,

    ACQ_QUEUE_INPUT_TO_OUTPUT = 0, ACQ_QUEUE_OUTPUT_DISCARD = 1, ACQ_QUEUE_ALL_TO_INPUT = 2,
    ACQ_QUEUE_UNQUEUED_TO_INPUT = 3, ACQ_QUEUE_ALL_DISCARD = 4,

    STREAM_INFO_ID = 0, STREAM_INFO_NUM_DELIVERED = 1, STREAM_INFO_NUM_UNDERRUN = 2, STREAM_INFO_NUM_ANNOUNCED = 3,
    STREAM_INFO_NUM_QUEUED = 4, STREAM_INFO_NUM_AWAIT_DELIVERY = 5, STREAM_INFO_NUM_STARTED = 6,
    STREAM_INFO_PAYLOAD_SIZE = 7, STREAM_INFO_IS_GRABBING = 8, STREAM_INFO_DEFINES_PAYLOADSIZE = 9,
    STREAM_INFO_TLTYPE = 10, STREAM_INFO_NUM_CHUNKS_MAX = 11, STREAM_INFO_BUF_ANNOUNCE_MIN = 12,
    STREAM_INFO_BUF_ALIGNMENT = 13,

    BUFFER_INFO_BASE = 0, BUFFER_INFO_SIZE = 1, BUFFER_INFO_USER_PTR = 2, BUFFER_INFO_TIMESTAMP = 3,
    BUFFER_INFO_NEW_DATA = 4, BUFFER_INFO_IS_QUEUED = 5, BUFFER_INFO_IS_ACQUIRING = 6, BUFFER_INFO_IS_INCOMPLETE = 7,
    BUFFER_INFO_TLTYPE = 8, BUFFER_INFO_SIZE_FILLED = 9, BUFFER_INFO_WIDTH = 10, BUFFER_INFO_HEIGHT = 11,
    BUFFER_INFO_XOFFSET = 12, BUFFER_INFO_YOFFSET = 13, BUFFER_INFO_XPADDING = 14, BUFFER_INFO_YPADDING = 15,
    BUFFER_INFO_FRAMEID = 16, BUFFER_INFO_IMAGEPRESENT = 17, BUFFER_INFO_IMAGEOFFSET = 18,
    BUFFER_INFO_PAYLOADTYPE = 19, BUFFER_INFO_PIXELFORMAT = 20, BUFFER_INFO_PIXELFORMAT_NAMESPACE = 21,
    BUFFER_INFO_DELIVERED_IMAGEHEIGHT = 22, BUFFER_INFO_DELIVERED_CHUNKPAYLOADSIZE = 23,
    BUFFER_INFO_PIXEL_ENDIANNESS = 26, BUFFER_INFO_DATA_SIZE = 27, BUFFER_INFO_TIMESTAMP_NS = 28,
    BUFFER_INFO_DATA_LARGER_THAN_BUFFER = 29, BUFFER_INFO_CONTAINS_CHUNKDATA = 30, BUFFER_INFO_IS_COMPOSITE = 31,
    PAYLOAD_TYPE_IMAGE = 1, PIXELFORMAT_NAMESPACE_PFNC_32BIT = 4, PIXELENDIANNESS_LITTLE = 1,

    PORT_INFO_ID = 0, PORT_INFO_VENDOR = 1, PORT_INFO_MODEL = 2, PORT_INFO_TLTYPE = 3, PORT_INFO_MODULE = 4,
    PORT_INFO_LITTLE_ENDIAN = 5, PORT_INFO_BIG_ENDIAN = 6, PORT_INFO_ACCESS_READ = 7, PORT_INFO_ACCESS_WRITE = 8,
    PORT_INFO_ACCESS_NA = 9, PORT_INFO_ACCESS_NI = 10, PORT_INFO_VERSION = 11, PORT_INFO_PORTNAME = 12,

    URL_INFO_URL = 0, URL_INFO_SCHEMA_VER_MAJOR = 1, URL_INFO_SCHEMA_VER_MINOR = 2, URL_INFO_FILE_VER_MAJOR = 3,
    URL_INFO_FILE_VER_MINOR = 4, URL_INFO_FILE_VER_SUBMINOR = 5, URL_INFO_FILE_REGISTER_ADDRESS = 7,
    URL_INFO_FILE_SIZE = 8, URL_INFO_SCHEME = 9, URL_INFO_FILENAME = 10, URL_SCHEME_LOCAL = 0,

    EVENT_NEW_BUFFER = 1, EVENT_EVENT_TYPE = 0, EVENT_NUM_IN_QUEUE = 1, EVENT_NUM_FIRED = 2, EVENT_SIZE_MAX = 3,
    EVENT_INFO_DATA_SIZE_MAX = 4, EVENT_DATA_ID = 0, EVENT_DATA_VALUE = 1,
};

/* The standard packs its structures. */
struct __attribute__((packed)) event_new_buffer {
    void *buffer;
    void *user_pointer;
};

struct __attribute__((packed)) register_stack_entry {
    uint64_t address;
    void *buffer;
    size_t size;
};

struct __attribute__((packed)) single_chunk_data {
    uint64_t id;
    ptrdiff_t offset;
    size_t length;
};

struct __attribute__((packed)) buffer_info_stacked {
    int32_t command;
    int32_t type;
    void *buffer;
    size_t size;
    GC_ERROR result;
};

static const char VENDOR[] = "Inspector";
static const char MODEL[] = "Simulated camera";
static const char VERSION[] = "1.0.0";
static const char TL_TYPE[] = "Custom"; /* and so chunks are found by DSGetBufferChunkData alone, in any layout */
static const char INTERFACE_ID[] = "stages";
static const char STREAM_ID[] = "stream0";

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed; /* of the monotonic clock */

static _Thread_local struct {
    GC_ERROR code;
    char text[256];
} last_error;

__attribute__((format(printf, 2, 3))) static GC_ERROR fail(GC_ERROR code, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(last_error.text, sizeof last_error.text, format, arguments);
    va_end(arguments);
    last_error.code = code;
    return code;
}

/* Where the answer to an info command goes; without a buffer only its size is asked for. */
struct reply {
    int32_t *type;
    void *buffer;
    size_t *size;
};

static GC_ERROR give(struct reply reply, int32_t type, const void *value, size_t size)
{
    if (!reply.size)
        return fail(GC_ERR_INVALID_PARAMETER, "the pointer to the size is missing");
    size_t room = *reply.size;
    *reply.size = size;
    if (reply.type)
        *reply.type = type;
    if (!reply.buffer)
        return GC_ERR_SUCCESS;
    if (room < size)
        return fail(GC_ERR_BUFFER_TOO_SMALL, "the answer takes %zu bytes, the buffer has %zu", size, room);
    memcpy(reply.buffer, value, size);
    return GC_ERR_SUCCESS;
}

static GC_ERROR give_text(struct reply reply, const char *text)
{
    return give(reply, INFO_DATATYPE_STRING, text, strlen(text) + 1);
}

static GC_ERROR give_bool(struct reply reply, bool value)
{
    return give(reply, INFO_DATATYPE_BOOL8, &(bool8_t){value}, sizeof(bool8_t));
}

static GC_ERROR give_int32(struct reply reply, int32_t value)
{
    return give(reply, INFO_DATATYPE_INT32, &value, sizeof value);
}

static GC_ERROR give_uint32(struct reply reply, uint32_t value)
{
    return give(reply, INFO_DATATYPE_UINT32, &value, sizeof value);
}

static GC_ERROR give_uint64(struct reply reply, uint64_t value)
{
    return give(reply, INFO_DATATYPE_UINT64, &value, sizeof value);
}

static GC_ERROR give_size(struct reply reply, size_t value)
{
    return give(reply, INFO_DATATYPE_SIZET, &value, sizeof value);
}

static GC_ERROR give_pointer(struct reply reply, void *value)
{
    return give(reply, INFO_DATATYPE_PTR, &value, sizeof value);
}

static GC_ERROR unknown_command(int32_t command)
{
    return fail(GC_ERR_NOT_IMPLEMENTED, "info command %d is not implemented", command);
}

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

/* Gives the lock away until something changed or this time has come. */
static void wait_until(int64_t time_ns)
{
    struct timespec time = {.tv_sec = time_ns / 1000000000, .tv_nsec = time_ns % 1000000000};
    pthread_cond_timedwait(&changed, &lock, &time);
}

static void announce_change(void)
{
    pthread_cond_broadcast(&changed);
}

/* ---------------------------------------------------------------------------------------------------- Stage ------ */

enum { LOG_LENGTH = 256, LINES = 2, STAGE_VERSION = 1 };

struct exposure {
    uint64_t frame_id;
    int64_t exposed_ns;
    int64_t part;
};

/* The head of a stage's file; `LAYOUT` in layout.py says what each field means and who writes it. */
struct stage {
    char magic[8];
    uint32_t version;
    uint32_t header_size;
    uint32_t width;
    uint32_t height;
    uint32_t channels;
    uint32_t slots;
    int64_t clock_origin_ns;
    _Alignas(64) char name[64];
    char serial[64];
    char user_id[64];

    _Atomic uint32_t present;
    _Atomic uint32_t stalled;
    _Atomic uint32_t hang;
    _Atomic uint32_t abort;
    _Atomic uint32_t incomplete_every;
    _Atomic uint32_t drop_every;
    _Atomic uint32_t line_padding;
    _Atomic uint32_t transport_delay_us;
    _Atomic int64_t clock_offset_ns;
    _Atomic double clock_ppm;
    _Atomic uint64_t power_cycles;

    _Alignas(64) _Atomic uint64_t written;
    _Atomic uint64_t pulses[LINES];
    _Atomic uint64_t unheard_pulses;

    _Alignas(64) _Atomic uint64_t taken;
    _Atomic uint64_t armed_line;
    _Atomic uint64_t heard_pulses[LINES];
    _Atomic uint64_t exposures;
    _Atomic uint64_t delivered;
    _Atomic uint64_t incomplete;
    _Atomic uint64_t dropped;
    _Atomic uint64_t missed_triggers;
    _Atomic uint64_t underruns;
    _Atomic uint64_t repeated;
    _Atomic uint64_t opens;
    _Atomic uint64_t logged;
    _Atomic uint64_t acquiring;
    _Alignas(64) struct exposure log[LOG_LENGTH];
};

#define AT(field, offset) _Static_assert(offsetof(struct stage, field) == (offset), "as layout.py has it")
AT(magic, 0);
AT(version, 8);
AT(header_size, 12);
AT(width, 16);
AT(height, 20);
AT(channels, 24);
AT(slots, 28);
AT(clock_origin_ns, 32);
AT(name, 64);
AT(serial, 128);
AT(user_id, 192);
AT(present, 256);
AT(stalled, 260);
AT(hang, 264);
AT(abort, 268);
AT(incomplete_every, 272);
AT(drop_every, 276);
AT(line_padding, 280);
AT(transport_delay_us, 284);
AT(clock_offset_ns, 288);
AT(clock_ppm, 296);
AT(power_cycles, 304);
AT(written, 320);
AT(pulses, 328);
AT(unheard_pulses, 344);
AT(taken, 384);
AT(armed_line, 392);
AT(heard_pulses, 400);
AT(exposures, 416);
AT(delivered, 424);
AT(incomplete, 432);
AT(dropped, 440);
AT(missed_triggers, 448);
AT(underruns, 456);
AT(repeated, 464);
AT(opens, 472);
AT(logged, 480);
AT(acquiring, 488);
AT(log, 512);
_Static_assert(sizeof(struct exposure) == 24 && sizeof(struct stage) == 6656, "as layout.py has it");

/* Bytes of the file that are locked, by the process of the stage and by the one that has opened the camera. Such locks
 * end with their process, and unlike flock's they can be asked about without being taken. */
enum { STAGE_BYTE = 0, CAMERA_BYTE = 1 };

static struct flock write_lock_on(off_t byte)
{
    return (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1};
}

static bool is_locked(int file, off_t byte)
{
    struct flock found = write_lock_on(byte);
    return fcntl(file, F_OFD_GETLK, &found) == 0 && found.l_type != F_UNLCK;
}

static bool take_lock(int file, off_t byte)
{
    struct flock wanted = write_lock_on(byte);
    return fcntl(file, F_OFD_SETLK, &wanted) == 0;
}

struct stage_file {
    int file;
    size_t size;
    struct stage *stage;
};

static size_t picture_size(const struct stage *stage)
{
    return (size_t)stage->width * stage->height * stage->channels;
}

static bool is_stage(const struct stage *stage, size_t size)
{
    return memcmp(stage->magic, "INSPSTGE", sizeof stage->magic) == 0 && stage->version == STAGE_VERSION &&
           stage->header_size >= sizeof *stage && stage->header_size <= size && stage->width <= UINT16_MAX &&
           stage->height <= UINT16_MAX && (stage->channels == 1 || stage->channels == 3) && stage->slots >= 2 &&
           stage->slots <= UINT16_MAX && picture_size(stage) <= (size - stage->header_size) / stage->slots;
}

static void stage_close(struct stage_file *opened)
{
    munmap(opened->stage, opened->size);
    close(opened->file);
}

/* Opens the file if it is a stage of this version whose process still runs. */
static bool stage_open(const char *path, struct stage_file *opened)
{
    opened->file = open(path, O_RDWR | O_CLOEXEC);
    if (opened->file < 0)
        return false;
    struct stat status;
    void *memory = MAP_FAILED;
    if (fstat(opened->file, &status) == 0 && (size_t)status.st_size >= sizeof(struct stage)) {
        opened->size = (size_t)status.st_size;
        memory = mmap(NULL, opened->size, PROT_READ | PROT_WRITE, MAP_SHARED, opened->file, 0);
    }
    if (memory == MAP_FAILED) {
        close(opened->file);
        return false;
    }
    opened->stage = memory;
    if (is_stage(opened->stage, opened->size) && is_locked(opened->file, STAGE_BYTE))
        return true;
    stage_close(opened);
    return false;
}

/* The folder of the stages, as stage.py has it. */
static void stage_folder(char folder[PATH_MAX])
{
    const char *wanted = getenv("INSPECTOR_STAGES");
    if (wanted && *wanted)
        snprintf(folder, PATH_MAX, "%s", wanted);
    else
        snprintf(folder, PATH_MAX, "/dev/shm/inspector-cameras-%u", (unsigned)getuid());
}

/* -------------------------------------------------------------------------------------------------- Handles ------ */

enum kind { FREE, SYSTEM, INTERFACE, DEVICE, REMOTE_DEVICE, STREAM, BUFFER, EVENT };

static const char *const KIND_NAMES[] = {"",       "system", "interface", "device", "remote device",
                                         "stream", "buffer", "event"};

/* A handle is an index into this table and the generation of its entry, so that it never comes back to life. */
static struct {
    struct entry {
        enum kind kind;
        uint32_t generation;
        void *object;
    } *entries;
    uint32_t count;
} handles;

static struct entry *free_entry(void)
{
    for (uint32_t i = 0; i < handles.count; i++)
        if (handles.entries[i].kind == FREE)
            return &handles.entries[i];
    uint32_t count = handles.count ? 2 * handles.count : 64;
    struct entry *entries = realloc(handles.entries, count * sizeof *entries);
    if (!entries)
        return NULL;
    memset(entries + handles.count, 0, (count - handles.count) * sizeof *entries);
    handles.entries = entries;
    entries += handles.count;
    handles.count = count;
    return entries;
}

/* NULL when memory is short. */
static void *handle_new(enum kind kind, void *object)
{
    struct entry *entry = free_entry();
    if (!entry)
        return NULL;
    *entry = (struct entry){kind, entry->generation + 1, object};
    uint64_t index = (uint64_t)(entry - handles.entries) + 1;
    return (void *)(uintptr_t)((uint64_t)entry->generation << 32 | index);
}

static struct entry *handle_entry(void *handle)
{
    uint64_t index = (uint32_t)(uintptr_t)handle;
    if (index == 0 || index > handles.count)
        return NULL;
    struct entry *entry = &handles.entries[index - 1];
    return entry->kind != FREE && entry->generation == (uintptr_t)handle >> 32 ? entry : NULL;
}

static void *handle_find(void *handle, enum kind kind)
{
    struct entry *entry = handle_entry(handle);
    return entry && entry->kind == kind ? entry->object : NULL;
}

static void handle_free(void *handle)
{
    struct entry *entry = handle_entry(handle);
    if (entry)
        entry->kind = FREE;
}

static GC_ERROR no_such(enum kind kind)
{
    return fail(GC_ERR_INVALID_HANDLE, "this is no handle of an open %s", KIND_NAMES[kind]);
}

/* These three return from the function that uses them. FIND declares `name`, the module of a handle. */
#define FIND(type, name, handle, kind)             \
    struct type *name = handle_find(handle, kind); \
    if (!name)                                     \
        return no_such(kind)

#define CHECK(handle, kind)         \
    if (!handle_find(handle, kind)) \
        return no_such(kind)

#define NEEDS(pointer) \
    if (!(pointer))    \
        return fail(GC_ERR_INVALID_PARAMETER, "the pointer " #pointer " is missing")

/* --------------------------------------------------------------------------------------------------- Pixels ------ */

static const double DEFAULT_EXPOSURE_US = 5000; /* at which the image is as bright as the picture */

enum colour { MONO, BAYER, RGB };

/* A pixel format of the PFNC. `order` holds the channels (0 red, 1 green, 2 blue): of a Bayer format the square's upper
 * and lower row, of RGB the order in memory. */
struct format {
    uint32_t code;
    enum colour colour;
    unsigned depth;
    bool packed; /* depths above 8: packed to a little-endian stream of bits, or in the low bits of 16 */
    uint8_t order[4];
};

static const struct format FORMATS[] = {
    {0x01080001, MONO, 8, false, {0}},           /* Mono8 */
    {0x01100003, MONO, 10, false, {0}},          /* Mono10 */
    {0x01100005, MONO, 12, false, {0}},          /* Mono12 */
    {0x01100007, MONO, 16, false, {0}},          /* Mono16 */
    {0x010A0046, MONO, 10, true, {0}},           /* Mono10p */
    {0x010C0047, MONO, 12, true, {0}},           /* Mono12p */
    {0x01080009, BAYER, 8, false, {0, 1, 1, 2}}, /* BayerRG8 */
    {0x01080008, BAYER, 8, false, {1, 0, 2, 1}}, /* BayerGR8 */
    {0x0108000A, BAYER, 8, false, {1, 2, 0, 1}}, /* BayerGB8 */
    {0x0108000B, BAYER, 8, false, {2, 1, 1, 0}}, /* BayerBG8 */
    {0x01100011, BAYER, 12, false, {0, 1, 1, 2}}, /* BayerRG12 */
    {0x02180014, RGB, 8, false, {0, 1, 2}},      /* RGB8 */
    {0x02180015, RGB, 8, false, {2, 1, 0}},      /* BGR8 */
};

static const struct format *find_format(int64_t code)
{
    for (size_t i = 0; i < sizeof FORMATS / sizeof *FORMATS; i++)
        if (FORMATS[i].code == code)
            return &FORMATS[i];
    return NULL;
}

static size_t line_bytes(const struct format *format, uint32_t width)
{
    return (size_t)width * (format->code >> 16 & 0xFF) / 8; /* the PFNC keeps the bits of a pixel in its codes */
}

/* What works on every pixel is built twice, with AVX2 and without, and the loader chooses. Sizes are size_t there:
 * compilers make vectors only of indices that do not wrap. */
#if defined(__x86_64__) && defined(__GLIBC__) && __has_attribute(target_clones)
#define FAST __attribute__((target_clones("avx2", "default")))
#else
#define FAST
#endif

/* What exposure and gain multiply the picture by, in 1/256; from 255 on, 1 becomes white. */
static uint32_t brightness_of(double exposure_us, double gain_db)
{
    double brightness = exposure_us / DEFAULT_EXPOSURE_US * pow(10, gain_db / 20);
    return (uint32_t)(fmin(brightness, 255) * 256 + 0.5);
}

FAST static void expose_values(uint32_t brightness, const uint8_t *source, size_t count, uint8_t *restrict exposed)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t value = (source[i] * brightness + 128) >> 8;
        exposed[i] = (uint8_t)(value < 255 ? value : 255);
    }
}

/* BT.601 in 15 bits, as OpenCV has it. */
FAST static void take_luma(const uint8_t *line, size_t width, uint8_t *restrict samples)
{
    for (size_t x = 0; x < width; x++)
        samples[x] = (uint8_t)((9798 * line[3 * x] + 19235 * line[3 * x + 1] + 3735 * line[3 * x + 2] + 16384) >> 15);
}

FAST static void take_colours(const uint8_t *line, size_t width, const uint8_t order[3], uint8_t *restrict samples)
{
    for (size_t x = 0; x < width; x++) {
        samples[3 * x] = line[3 * x + order[0]];
        samples[3 * x + 1] = line[3 * x + order[1]];
        samples[3 * x + 2] = line[3 * x + order[2]];
    }
}

static void take_bayer(const uint8_t *line, size_t width, const uint8_t order[2], uint8_t *restrict samples)
{
    for (size_t x = 0; x < width; x += 2, line += 6) {
        samples[x] = line[order[0]];
        samples[x + 1] = line[3 + order[1]];
    }
}

FAST static void triple(const uint8_t *line, size_t width, uint8_t *restrict samples)
{
    for (size_t x = 0; x < width; x++)
        samples[3 * x] = samples[3 * x + 1] = samples[3 * x + 2] = line[x];
}

/* Line y of an exposed picture as 8 bit samples of the format's colours. */
static void take_samples(const struct format *format, const uint8_t *line, bool is_grey, uint32_t y, size_t width,
                         uint8_t *samples)
{
    if (is_grey)
        triple(line, width, samples);
    else if (format->colour == RGB)
        take_colours(line, width, format->order, samples);
    else if (format->colour == BAYER)
        take_bayer(line, width, format->order + 2 * (y % 2), samples);
    else
        take_luma(line, width, samples);
}

/* White is white at every depth: the low bits repeat the high ones. */
static uint16_t deepen(uint8_t sample, unsigned depth)
{
    return (uint16_t)(sample << (depth - 8) | sample >> (16 - depth));
}

typedef uint16_t unaligned_uint16 __attribute__((aligned(1))); /* lines with padding begin anywhere */

FAST static void store_16_bit(const uint8_t *samples, size_t width, unsigned depth, unaligned_uint16 *restrict line)
{
    for (size_t x = 0; x < width; x++)
        line[x] = deepen(samples[x], depth);
}

/* The first pixel is in the lowest bits; four of 10 or 12 bits fill 5 or 6 bytes. */
static inline void store_packed(const uint8_t *samples, size_t width, unsigned depth, uint8_t *restrict line)
{
    for (size_t x = 0; x < width; x += 4, line += depth / 2) {
        uint64_t low = deepen(samples[x], depth) | (uint64_t)deepen(samples[x + 1], depth) << depth;
        uint64_t high = deepen(samples[x + 2], depth) | (uint64_t)deepen(samples[x + 3], depth) << depth;
        memcpy(line, &(uint64_t){low | high << 2 * depth}, depth / 2);
    }
}

static void store_samples(const struct format *format, const uint8_t *samples, size_t width, uint8_t *line)
{
    if (!format->packed)
        store_16_bit(samples, width, format->depth, (unaligned_uint16 *)line);
    else if (format->depth == 10)
        store_packed(samples, width, 10, line);
    else
        store_packed(samples, width, 12, line);
}

/* From a line of the picture to a line of the image, with two lines for what is between, of three channels each. */
static void convert_line(const struct format *format, uint32_t brightness, const uint8_t *source, bool is_grey,
                         uint32_t y, size_t width, uint8_t *const between[2], uint8_t *line)
{
    bool is_deep = format->depth > 8;
    bool is_direct = is_grey && format->colour != RGB; /* grey is luma already, and any colour of a mosaic */
    uint8_t *samples = is_deep ? between[1] : line;
    uint8_t *exposed = is_direct ? samples : between[0];
    expose_values(brightness, source, is_grey ? width : 3 * width, exposed);
    if (!is_direct)
        take_samples(format, exposed, is_grey, y, width, samples);
    if (is_deep)
        store_samples(format, samples, width, line);
}

/* --------------------------------------------------------------------------------------------------- Camera ------ */

__asm__(".pushsection .rodata\n"
        "camera_xml: .incbin \"" CAMERA_XML "\"\n"
        "camera_xml_end:\n"
        ".popsection");
extern const char camera_xml[] __attribute__((visibility("hidden")));
extern const char camera_xml_end[] __attribute__((visibility("hidden")));

/* The address space: five texts, then registers of 64 bit each, then camera.xml. */
enum { TEXT_LENGTH = 64, USER_ID_AT = 0x100, TEXTS_END = 0x140, REGISTERS_AT = 0x1000, XML_AT = 0x100000 };

/* In the order of their addresses: 0x1000, 0x1008, ... */
enum register_name {
    SENSOR_WIDTH,
    SENSOR_HEIGHT,
    WIDTH,
    HEIGHT,
    OFFSET_X,
    OFFSET_Y,
    PIXEL_FORMAT,
    PAYLOAD_SIZE,
    TL_PARAMS_LOCKED,
    ACQUISITION_MODE,
    ACQUISITION_FRAME_COUNT,
    ACQUISITION_START,
    ACQUISITION_STOP,
    FRAME_RATE_ENABLE,
    FRAME_RATE,
    EXPOSURE_TIME,
    GAIN,
    TRIGGER_MODE,
    TRIGGER_SOURCE,
    TRIGGER_ACTIVATION,
    TRIGGER_SOFTWARE,
    TIMESTAMP_LATCH,
    TIMESTAMP_LATCH_VALUE,
    CHUNK_MODE_ACTIVE,
    CHUNK_ENABLE, /* one of each chunk */
    REGISTERS = CHUNK_ENABLE + 3
};

enum { CONTINUOUS, SINGLE_FRAME, MULTI_FRAME };          /* AcquisitionMode */
enum { SOFTWARE, LINE0, LINE1, TRIGGER_SOURCES };        /* TriggerSource */
enum { RISING_EDGE, FALLING_EDGE, TRIGGER_ACTIVATIONS }; /* TriggerActivation; a pulse has one of each */
enum chunk { CHUNK_FRAME_ID, CHUNK_TIMESTAMP, CHUNK_EXPOSURE_TIME, CHUNKS };
enum { CHUNK_SIZE = 8, PADDING_VALUE = 0xFF };

static const int64_t POLL_NS = 200 * 1000;        /* how often an armed camera looks at its lines, and for pictures */
static const int64_t SLOW_POLL_NS = 10 * 1000000; /* how often at what is not in a hurry: a switch of the stage */

union value {
    int64_t whole;
    double real;
};

/* One exposure, as it travels to the host. */
struct frame {
    uint64_t id; /* 0: nothing was filled in */
    uint64_t timestamp_ns;
    double exposure_us;
    const struct format *format;
    uint32_t width, height, x, y, padding;
    bool chunks[CHUNKS];
    size_t image_size;
    size_t size; /* with its chunks */
};

struct identity {
    char path[PATH_MAX];
    char id[96];
    char name[64];
    char serial[64];
    char user_id[64];
};

struct device {
    struct device *next;
    void *handle, *remote_handle;
    struct identity identity;
    struct stage_file opened;
    struct stage *stage;    /* opened.stage */
    uint64_t power_cycles;  /* at opening: with every further one the camera has forgotten this connection */
    uint32_t width, height; /* copies, as are those that follow: nobody can change them under our feet */
    uint32_t channels, slots;
    const uint8_t *pictures;
    struct stream *stream;

    union value registers[REGISTERS];
    uint32_t padding; /* the stage's line_padding at AcquisitionStart */
    pthread_t thread;
    bool started;  /* the thread is to be joined */
    bool running;  /* the camera acquires */
    bool stopping; /* and is to end */
    bool exposing;
    bool triggered; /* by software */
    uint64_t frame_id;
    int64_t tick_ns;     /* free run: when the last exposure was due */
    uint8_t *memory;     /* the frame that was exposed last, as it goes over the wire */
    uint8_t *between[2]; /* two lines on their way there */
};

static void transmit(struct device *camera, const struct frame *frame);

/* Unplugged, plugged in again, or its stage's process has died. */
static bool is_lost(const struct device *camera)
{
    return !camera->stage->present || camera->stage->power_cycles != camera->power_cycles ||
           !is_locked(camera->opened.file, STAGE_BYTE);
}

static GC_ERROR does_not_answer(const struct device *camera)
{
    return fail(GC_ERR_IO, "the camera %s does not answer", camera->identity.id);
}

static int64_t setting(const struct device *camera, enum register_name name)
{
    return camera->registers[name].whole;
}

static bool is_locked_by_acquisition(const struct device *camera)
{
    return camera->running || setting(camera, TL_PARAMS_LOCKED);
}

/* The camera's clock when the host's shows this. */
static uint64_t camera_clock_ns(const struct stage *stage, int64_t host_ns)
{
    double drift_ns = (double)(host_ns - stage->clock_origin_ns) * stage->clock_ppm * 1e-6;
    return (uint64_t)(host_ns + stage->clock_offset_ns + (int64_t)floor(drift_ns));
}

/* A frame as the camera would send it now. */
static struct frame next_frame(struct device *camera)
{
    if (!camera->running)
        camera->padding = camera->stage->line_padding;
    struct frame frame = {
        .format = find_format(setting(camera, PIXEL_FORMAT)),
        .width = (uint32_t)setting(camera, WIDTH),
        .height = (uint32_t)setting(camera, HEIGHT),
        .x = (uint32_t)setting(camera, OFFSET_X),
        .y = (uint32_t)setting(camera, OFFSET_Y),
        .padding = camera->padding,
        .exposure_us = camera->registers[EXPOSURE_TIME].real,
    };
    frame.image_size = (line_bytes(frame.format, frame.width) + frame.padding) * frame.height;
    frame.size = frame.image_size;
    for (int chunk = 0; chunk < CHUNKS; chunk++) {
        frame.chunks[chunk] = setting(camera, CHUNK_MODE_ACTIVE) && setting(camera, CHUNK_ENABLE + chunk);
        frame.size += frame.chunks[chunk] ? CHUNK_SIZE : 0;
    }
    return frame;
}

/* --- the exposure */

/* The next picture; at a trigger that comes before it the last one again, at the very first trigger NULL: darkness. */
static const uint8_t *next_picture(struct device *camera, int64_t *part)
{
    struct stage *stage = camera->stage;
    uint64_t taken = stage->taken;
    if (stage->written == taken) {
        stage->repeated++;
        *part = (int64_t)taken - 1;
    } else {
        *part = (int64_t)taken;
    }
    if (*part < 0)
        return NULL;
    return camera->pictures + (size_t)(*part % camera->slots) * camera->width * camera->height * camera->channels;
}

static void render(struct device *camera, const struct frame *frame, const uint8_t *picture, double gain_db)
{
    uint32_t brightness = brightness_of(frame->exposure_us, gain_db);
    size_t filled = line_bytes(frame->format, frame->width);
    for (uint32_t y = 0; y < frame->height; y++) {
        uint8_t *line = camera->memory + y * (filled + frame->padding);
        const uint8_t *source = picture + ((size_t)(frame->y + y) * camera->width + frame->x) * camera->channels;
        convert_line(frame->format, brightness, source, camera->channels == 1, y, frame->width, camera->between, line);
        memset(line + filled, PADDING_VALUE, frame->padding);
    }
}

static void append_chunks(struct device *camera, const struct frame *frame)
{
    union {
        uint64_t whole;
        double real;
    } values[CHUNKS] = {{.whole = frame->id}, {.whole = frame->timestamp_ns}, {.real = frame->exposure_us}};
    uint8_t *end = camera->memory + frame->image_size;
    for (int chunk = 0; chunk < CHUNKS; chunk++)
        if (frame->chunks[chunk]) {
            memcpy(end, &values[chunk], CHUNK_SIZE);
            end += CHUNK_SIZE;
        }
}

static void log_exposure(struct stage *stage, uint64_t frame_id, int64_t exposed_ns, int64_t part)
{
    stage->log[stage->logged % LOG_LENGTH] = (struct exposure){frame_id, exposed_ns, part};
    stage->logged++;
    stage->exposures++;
}

/* Pulses that have come since the line was looked at are lost. */
static void miss_pulses(struct stage *stage)
{
    for (int line = 0; line < LINES; line++) {
        uint64_t pulses = stage->pulses[line];
        stage->missed_triggers += pulses - stage->heard_pulses[line];
        stage->heard_pulses[line] = pulses;
    }
}

static void miss_triggers(struct device *camera)
{
    miss_pulses(camera->stage);
    camera->stage->missed_triggers += camera->triggered;
    camera->triggered = false;
}

/* Exposes and reads out one frame; the lock is free meanwhile. */
static void expose(struct device *camera)
{
    struct stage *stage = camera->stage;
    struct frame frame = next_frame(camera);
    double gain_db = camera->registers[GAIN].real;
    int64_t part, begin_ns = now_ns();
    frame.id = ++camera->frame_id;
    frame.timestamp_ns = camera_clock_ns(stage, begin_ns);
    const uint8_t *picture = next_picture(camera, &part);
    log_exposure(stage, frame.id, begin_ns, part);
    camera->exposing = true;
    pthread_mutex_unlock(&lock);

    if (picture)
        render(camera, &frame, picture, gain_db);
    else
        memset(camera->memory, 0, frame.image_size);
    append_chunks(camera, &frame);
    if (part == (int64_t)stage->taken)
        stage->taken++; /* only now may its place be written again */

    pthread_mutex_lock(&lock);
    int64_t end_ns = begin_ns + (int64_t)(frame.exposure_us * 1000);
    while (!camera->stopping && now_ns() < end_ns)
        wait_until(end_ns);
    camera->exposing = false;
    miss_pulses(stage);
    if (!camera->stopping && !is_lost(camera) && !stage->stalled)
        transmit(camera, &frame);
}

/* --- what begins an exposure */

static uint64_t watched_line(const struct device *camera)
{
    return setting(camera, TRIGGER_MODE) ? (uint64_t)setting(camera, TRIGGER_SOURCE) : 0;
}

/* Tells the stage which line is listened to (LINE0, LINE1, or none). */
static void arm(struct device *camera, uint64_t line)
{
    if (camera->stage->armed_line == line)
        return;
    miss_pulses(camera->stage);
    camera->stage->armed_line = line;
}

static bool line_triggers(struct stage *stage, int line)
{
    uint64_t pulses = stage->pulses[line], unheard = pulses - stage->heard_pulses[line];
    stage->heard_pulses[line] = pulses;
    stage->missed_triggers += unheard ? unheard - 1 : 0;
    return unheard > 0;
}

static bool software_triggers(struct device *camera)
{
    bool triggered = camera->triggered;
    camera->triggered = false;
    return triggered;
}

static int64_t period_ns(const struct device *camera)
{
    return setting(camera, FRAME_RATE_ENABLE) ? (int64_t)(1e9 / camera->registers[FRAME_RATE].real) : 0;
}

/* The rate is kept without drift, but time spent waiting for pictures is not made up for. */
static bool free_run_begins(struct device *camera)
{
    int64_t now = now_ns(), due = camera->tick_ns + period_ns(camera);
    if (now < due || camera->stage->written == camera->stage->taken)
        return false;
    camera->tick_ns = now - due < period_ns(camera) ? due : now;
    return true;
}

static bool exposure_begins(struct device *camera)
{
    if (camera->stage->stalled) {
        miss_triggers(camera);
        return false;
    }
    if (!setting(camera, TRIGGER_MODE))
        return free_run_begins(camera);
    if (setting(camera, TRIGGER_SOURCE) == SOFTWARE)
        return software_triggers(camera);
    return line_triggers(camera->stage, (int)setting(camera, TRIGGER_SOURCE) - LINE0);
}

/* A software trigger wakes the camera; for lines and pictures it has to look. */
static int64_t next_look_ns(const struct device *camera)
{
    int64_t now = now_ns(), due = camera->tick_ns + period_ns(camera);
    if (setting(camera, TRIGGER_MODE))
        return now + (setting(camera, TRIGGER_SOURCE) == SOFTWARE ? SLOW_POLL_NS : POLL_NS);
    return due > now + POLL_NS ? due : now + POLL_NS;
}

static int64_t frames_to_expose(const struct device *camera)
{
    switch (setting(camera, ACQUISITION_MODE)) {
    case SINGLE_FRAME: return 1;
    case MULTI_FRAME: return setting(camera, ACQUISITION_FRAME_COUNT);
    default: return INT64_MAX;
    }
}

static void *acquire(void *argument)
{
    struct device *camera = argument;
    prctl(PR_SET_NAME, "camera");
    prctl(PR_SET_TIMERSLACK, 1000); /* nanoseconds: exposures end in time */
    pthread_mutex_lock(&lock);
    int64_t frames = frames_to_expose(camera);
    while (frames > 0 && !camera->stopping && !is_lost(camera)) {
        if (exposure_begins(camera)) {
            expose(camera);
            frames--;
        } else {
            wait_until(next_look_ns(camera));
        }
    }
    arm(camera, 0);
    miss_triggers(camera);
    camera->running = false;
    camera->stage->acquiring = 0;
    announce_change();
    pthread_mutex_unlock(&lock);
    return NULL;
}

/* Gives the lock away while the thread ends; NULL when the device was closed meanwhile. */
static struct device *camera_stop(void *handle)
{
    struct device *camera;
    while ((camera = handle_find(handle, DEVICE)) && camera->running) {
        camera->stopping = true;
        announce_change();
        pthread_cond_wait(&changed, &lock);
    }
    if (camera && camera->started) {
        pthread_join(camera->thread, NULL); /* its last act was to free the lock */
        camera->started = false;
    }
    return camera;
}

static GC_ERROR camera_start(struct device *camera)
{
    if (camera->running)
        return GC_ERR_SUCCESS;
    camera_stop(camera->handle); /* joins a thread that ended by itself */
    struct frame frame = next_frame(camera);
    uint8_t *memory = realloc(camera->memory, frame.size);
    if (!memory)
        return fail(GC_ERR_OUT_OF_MEMORY, "no memory for a frame of %zu bytes", frame.size);
    camera->memory = memory;
    camera->frame_id = 0;
    camera->tick_ns = 0;
    camera->stopping = camera->exposing = camera->triggered = false;
    if (pthread_create(&camera->thread, NULL, acquire, camera) != 0)
        return fail(GC_ERR_ERROR, "no thread for the camera");
    camera->started = camera->running = true;
    camera->stage->acquiring = 1;
    arm(camera, watched_line(camera));
    return GC_ERR_SUCCESS;
}

static GC_ERROR camera_trigger(struct device *camera)
{
    bool is_heard = camera->running && !camera->exposing && !camera->triggered && !camera->stage->stalled &&
                    setting(camera, TRIGGER_MODE) && setting(camera, TRIGGER_SOURCE) == SOFTWARE;
    if (is_heard)
        camera->triggered = true;
    else
        camera->stage->missed_triggers++;
    announce_change();
    return GC_ERR_SUCCESS;
}

/* --- registers */

static void camera_reset(struct device *camera)
{
    memset(camera->registers, 0, sizeof camera->registers);
    camera->registers[SENSOR_WIDTH].whole = camera->registers[WIDTH].whole = camera->width;
    camera->registers[SENSOR_HEIGHT].whole = camera->registers[HEIGHT].whole = camera->height;
    camera->registers[PIXEL_FORMAT].whole = camera->channels == 1 ? 0x01080001 : 0x02180015; /* Mono8, BGR8 */
    camera->registers[ACQUISITION_FRAME_COUNT].whole = 1;
    camera->registers[FRAME_RATE].real = 30;
    camera->registers[EXPOSURE_TIME].real = DEFAULT_EXPOSURE_US;
    for (int chunk = 0; chunk < CHUNKS; chunk++)
        camera->registers[CHUNK_ENABLE + chunk].whole = 1;
}

static bool is_real(enum register_name name)
{
    return name == FRAME_RATE || name == EXPOSURE_TIME || name == GAIN;
}

static bool is_command(enum register_name name)
{
    return name == ACQUISITION_START || name == ACQUISITION_STOP || name == TRIGGER_SOFTWARE || name == TIMESTAMP_LATCH;
}

static bool is_read_only(enum register_name name)
{
    return name == SENSOR_WIDTH || name == SENSOR_HEIGHT || name == PAYLOAD_SIZE || name == TIMESTAMP_LATCH_VALUE;
}

static bool shapes_the_payload(enum register_name name)
{
    return (name >= WIDTH && name <= PIXEL_FORMAT) || (name >= CHUNK_MODE_ACTIVE && name < REGISTERS);
}

static bool is_step(int64_t value, int64_t least, int64_t most, int64_t step)
{
    return value >= least && value <= most && (value - least) % step == 0;
}

/* The same ranges as in camera.xml: a camera does not rely on its description being obeyed. */
static bool is_allowed(const struct device *camera, enum register_name name, union value value)
{
    switch (name) {
    case WIDTH: return is_step(value.whole, 16, camera->width - setting(camera, OFFSET_X), 4);
    case HEIGHT: return is_step(value.whole, 16, camera->height - setting(camera, OFFSET_Y), 2);
    case OFFSET_X: return is_step(value.whole, 0, camera->width - setting(camera, WIDTH), 4);
    case OFFSET_Y: return is_step(value.whole, 0, camera->height - setting(camera, HEIGHT), 2);
    case PIXEL_FORMAT: return find_format(value.whole) != NULL;
    case ACQUISITION_MODE: return is_step(value.whole, CONTINUOUS, MULTI_FRAME, 1);
    case ACQUISITION_FRAME_COUNT: return is_step(value.whole, 1, UINT16_MAX, 1);
    case FRAME_RATE: return value.real >= 0.1 && value.real <= 10000;
    case EXPOSURE_TIME: return value.real >= 10 && value.real <= 1000000;
    case GAIN: return value.real >= 0 && value.real <= 24;
    case TRIGGER_SOURCE: return is_step(value.whole, SOFTWARE, TRIGGER_SOURCES - 1, 1);
    case TRIGGER_ACTIVATION: return is_step(value.whole, RISING_EDGE, TRIGGER_ACTIVATIONS - 1, 1);
    default: return is_step(value.whole, 0, 1, 1);
    }
}

static GC_ERROR execute(struct device *camera, enum register_name command)
{
    switch (command) {
    case ACQUISITION_START: return camera_start(camera);
    case ACQUISITION_STOP:
        camera_stop(camera->handle);
        return GC_ERR_SUCCESS;
    case TRIGGER_SOFTWARE: return camera_trigger(camera);
    default:
        camera->registers[TIMESTAMP_LATCH_VALUE].whole = (int64_t)camera_clock_ns(camera->stage, now_ns());
        return GC_ERR_SUCCESS;
    }
}

static GC_ERROR write_register(struct device *camera, enum register_name name, union value value)
{
    if (is_read_only(name))
        return fail(GC_ERR_ACCESS_DENIED, "register 0x%x is read only", REGISTERS_AT + 8 * name);
    if (is_command(name))
        return execute(camera, name);
    if (shapes_the_payload(name) && is_locked_by_acquisition(camera))
        return fail(GC_ERR_ACCESS_DENIED, "register 0x%x is locked during acquisition", REGISTERS_AT + 8 * name);
    if (!is_allowed(camera, name, value))
        return fail(GC_ERR_INVALID_VALUE, "register 0x%x does not take %g", REGISTERS_AT + 8 * name,
                    is_real(name) ? value.real : (double)value.whole);
    camera->registers[name] = value;
    if (camera->running)
        arm(camera, watched_line(camera));
    announce_change(); /* the camera may be waiting by the old settings */
    return GC_ERR_SUCCESS;
}

static union value read_register(struct device *camera, enum register_name name)
{
    if (name == PAYLOAD_SIZE)
        return (union value){.whole = (int64_t)next_frame(camera).size};
    return camera->registers[name];
}

static bool is_register(uint64_t address, size_t size)
{
    return address >= REGISTERS_AT && address < REGISTERS_AT + 8 * REGISTERS && address % 8 == 0 && size == 8;
}

static GC_ERROR no_address(uint64_t address, size_t size)
{
    return fail(GC_ERR_INVALID_ADDRESS, "the camera has nothing of %zu bytes at 0x%llx", size,
                (unsigned long long)address);
}

static GC_ERROR read_bytes(const void *memory, size_t length, uint64_t from, void *buffer, size_t size)
{
    if (from > length || size > length - from)
        return fail(GC_ERR_INVALID_ADDRESS, "read beyond the end");
    memcpy(buffer, (const char *)memory + from, size);
    return GC_ERR_SUCCESS;
}

static GC_ERROR read_texts(struct device *camera, uint64_t address, void *buffer, size_t size)
{
    char texts[TEXTS_END] = {0};
    const char *const all[] = {VENDOR, MODEL, VERSION, camera->identity.serial, camera->stage->user_id};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        snprintf(texts + i * TEXT_LENGTH, TEXT_LENGTH, "%.*s", TEXT_LENGTH - 1, all[i]);
    return read_bytes(texts, sizeof texts, address, buffer, size);
}

static GC_ERROR camera_read(struct device *camera, uint64_t address, void *buffer, size_t size)
{
    if (is_register(address, size)) {
        union value value = read_register(camera, (enum register_name)((address - REGISTERS_AT) / 8));
        memcpy(buffer, &value, sizeof value);
        return GC_ERR_SUCCESS;
    }
    if (address < TEXTS_END)
        return read_texts(camera, address, buffer, size);
    return no_address(address, size);
}

static GC_ERROR camera_write(struct device *camera, uint64_t address, const void *buffer, size_t size)
{
    if (is_register(address, size)) {
        union value value;
        memcpy(&value, buffer, sizeof value);
        return write_register(camera, (enum register_name)((address - REGISTERS_AT) / 8), value);
    }
    if (address == USER_ID_AT && size <= TEXT_LENGTH) {
        char text[TEXT_LENGTH] = {0};
        memcpy(text, buffer, size);
        text[TEXT_LENGTH - 1] = 0;
        memcpy(camera->stage->user_id, text, sizeof text);
        return GC_ERR_SUCCESS;
    }
    return no_address(address, size);
}

/* --------------------------------------------------------------------------------------------------- Stream ------ */

enum place { UNQUEUED, INPUT, FILLING, OUTPUT };

struct buffer {
    struct buffer *next;   /* of all that were announced */
    struct buffer *queued; /* the next in its queue */
    void *handle;
    uint8_t *memory;
    size_t size;
    void *user_pointer;
    bool is_ours; /* by DSAllocAndAnnounceBuffer */
    enum place place;
    bool is_new;
    int64_t ready_ns; /* when it is through the wire */
    struct frame frame;
    size_t filled;
};

struct queue {
    struct buffer *first, *last;
    size_t count;
};

struct stream {
    void *handle;
    struct device *device;
    struct buffer *buffers, *filling;
    size_t announced;
    struct queue input, output;
    struct event *event;
    bool grabbing;
    uint64_t to_acquire;
    uint64_t started, delivered, underruns;
};

struct event {
    void *handle;
    struct stream *stream;
    uint64_t fired;
    uint64_t kills;
};

static void queue_append(struct queue *queue, struct buffer *buffer, enum place place)
{
    buffer->place = place;
    buffer->queued = NULL;
    if (queue->last)
        queue->last->queued = buffer;
    else
        queue->first = buffer;
    queue->last = buffer;
    queue->count++;
}

static struct buffer *queue_take(struct queue *queue)
{
    struct buffer *buffer = queue->first;
    if (!buffer)
        return NULL;
    queue->first = buffer->queued;
    if (!queue->first)
        queue->last = NULL;
    queue->count--;
    buffer->place = UNQUEUED;
    return buffer;
}

static void queue_discard(struct queue *queue)
{
    while (queue_take(queue))
        ;
}

static void queue_input(struct stream *stream, struct buffer *buffer)
{
    buffer->filled = 0;
    buffer->is_new = false;
    buffer->frame = (struct frame){0};
    queue_append(&stream->input, buffer, INPUT);
}

static bool is_nth(uint32_t every, uint64_t number)
{
    return every && number % every == 0;
}

static bool is_incomplete(const struct buffer *buffer)
{
    return buffer->frame.id && buffer->filled < buffer->frame.size;
}

/* How much of the frame arrives: all, unless the buffer is too small or it is the turn of an incomplete one. */
static size_t arriving(const struct stream *stream, const struct buffer *buffer, const struct frame *frame)
{
    size_t size = frame->size < buffer->size ? frame->size : buffer->size;
    return is_nth(stream->device->stage->incomplete_every, stream->delivered + 1) ? size / 2 : size;
}

static void deliver(struct stream *stream, struct buffer *buffer)
{
    struct stage *stage = stream->device->stage;
    buffer->ready_ns = now_ns() + stage->transport_delay_us * 1000LL;
    buffer->is_new = true;
    queue_append(&stream->output, buffer, OUTPUT);
    stream->delivered++;
    stage->delivered++;
    stage->incomplete += is_incomplete(buffer);
    if (stream->event)
        stream->event->fired++;
    if (stream->delivered == stream->to_acquire)
        stream->grabbing = false;
}

/* Copies the camera's frame into the next buffer; the lock is free meanwhile. */
static void fill(struct stream *stream, struct buffer *buffer, const struct frame *frame)
{
    buffer->frame = *frame;
    buffer->filled = arriving(stream, buffer, frame);
    buffer->place = FILLING;
    stream->filling = buffer;
    stream->started++;
    pthread_mutex_unlock(&lock);
    memcpy(buffer->memory, stream->device->memory, buffer->filled);
    pthread_mutex_lock(&lock);
    stream->filling = NULL;
}

static void transmit(struct device *camera, const struct frame *frame)
{
    struct stream *stream = camera->stream;
    struct stage *stage = camera->stage;
    if (!stream || !stream->grabbing)
        return;
    if (is_nth(stage->drop_every, frame->id)) {
        stage->dropped++;
        return;
    }
    struct buffer *buffer = queue_take(&stream->input);
    if (!buffer) {
        stream->underruns++;
        stage->underruns++;
        return;
    }
    fill(stream, buffer, frame);
    if (stream->grabbing && !is_lost(camera))
        deliver(stream, buffer);
    else
        queue_input(stream, buffer);
    announce_change();
}

/* The stream once no buffer is being filled; NULL when it was closed meanwhile. */
static struct stream *settled(void *handle)
{
    struct stream *stream;
    while ((stream = handle_find(handle, STREAM)) && stream->filling)
        pthread_cond_wait(&changed, &lock);
    return stream;
}

static size_t count_ready(const struct stream *stream)
{
    size_t count = 0;
    int64_t now = now_ns();
    for (struct buffer *buffer = stream->output.first; buffer; buffer = buffer->queued)
        count += buffer->ready_ns <= now;
    return is_lost(stream->device) ? 0 : count;
}

/* A buffer of this stream. */
static struct buffer *buffer_of(struct stream *stream, void *handle)
{
    struct buffer *wanted = handle_find(handle, BUFFER);
    for (struct buffer *buffer = stream->buffers; buffer; buffer = buffer->next)
        if (buffer == wanted)
            return buffer;
    return NULL;
}

#define FIND_BUFFER(name, stream, handle)            \
    struct buffer *name = buffer_of(stream, handle); \
    if (!name)                                       \
        return no_such(BUFFER)

static void buffer_free(struct stream *stream, struct buffer *buffer)
{
    struct buffer **link = &stream->buffers;
    while (*link != buffer)
        link = &(*link)->next;
    *link = buffer->next;
    stream->announced--;
    handle_free(buffer->handle);
    if (buffer->is_ours)
        free(buffer->memory);
    free(buffer);
}

static void event_free(struct stream *stream)
{
    if (!stream->event)
        return;
    handle_free(stream->event->handle);
    free(stream->event);
    stream->event = NULL;
    announce_change(); /* whoever waits for it finds it gone */
}

static GC_ERROR stream_close(void *handle)
{
    struct stream *stream = settled(handle);
    if (!stream)
        return no_such(STREAM);
    event_free(stream);
    while (stream->buffers)
        buffer_free(stream, stream->buffers);
    stream->device->stream = NULL;
    handle_free(stream->handle);
    free(stream);
    return GC_ERR_SUCCESS;
}

static GC_ERROR stream_open(struct device *device, void **opened)
{
    NEEDS(opened);
    if (device->stream)
        return fail(GC_ERR_RESOURCE_IN_USE, "the stream is already open");
    struct stream *stream = calloc(1, sizeof *stream);
    void *handle = stream ? handle_new(STREAM, stream) : NULL;
    if (!handle) {
        free(stream);
        return fail(GC_ERR_OUT_OF_MEMORY, "no memory for a stream");
    }
    *stream = (struct stream){.handle = handle, .device = device};
    device->stream = stream;
    *opened = handle;
    return GC_ERR_SUCCESS;
}

static bool is_announced(const struct stream *stream, const void *memory)
{
    for (struct buffer *buffer = stream->buffers; buffer; buffer = buffer->next)
        if (buffer->memory == memory)
            return true;
    return false;
}

/* Buffers are kept in the order in which they were announced, for DSGetBufferID. */
static void append_announced(struct stream *stream, struct buffer *buffer)
{
    struct buffer **link = &stream->buffers;
    while (*link)
        link = &(*link)->next;
    *link = buffer;
    stream->announced++;
}

static GC_ERROR announce(struct stream *stream, void *memory, size_t size, bool is_ours, void *user_pointer,
                         void **announced)
{
    struct buffer *buffer = calloc(1, sizeof *buffer);
    void *handle = buffer ? handle_new(BUFFER, buffer) : NULL;
    if (!handle) {
        free(buffer);
        return fail(GC_ERR_OUT_OF_MEMORY, "no memory for a buffer");
    }
    *buffer = (struct buffer){
        .handle = handle, .memory = memory, .size = size, .user_pointer = user_pointer, .is_ours = is_ours};
    append_announced(stream, buffer);
    *announced = handle;
    return GC_ERR_SUCCESS;
}

static GC_ERROR stream_announce(void *stream_handle, void *memory, size_t size, void *user_pointer, void **announced)
{
    FIND(stream, stream, stream_handle, STREAM);
    NEEDS(memory);
    NEEDS(announced);
    if (size == 0)
        return fail(GC_ERR_INVALID_PARAMETER, "a buffer of 0 bytes");
    if (is_announced(stream, memory))
        return fail(GC_ERR_RESOURCE_IN_USE, "this memory is announced already");
    return announce(stream, memory, size, false, user_pointer, announced);
}

static GC_ERROR stream_allocate(void *stream_handle, size_t size, void *user_pointer, void **announced)
{
    FIND(stream, stream, stream_handle, STREAM);
    NEEDS(announced);
    if (size == 0)
        return fail(GC_ERR_INVALID_PARAMETER, "a buffer of 0 bytes");
    void *memory = malloc(size);
    if (!memory)
        return fail(GC_ERR_OUT_OF_MEMORY, "no memory for a buffer of %zu bytes", size);
    GC_ERROR error = announce(stream, memory, size, true, user_pointer, announced);
    if (error)
        free(memory);
    return error;
}

static GC_ERROR stream_revoke(void *stream_handle, void *buffer_handle, void **memory, void **user_pointer)
{
    FIND(stream, stream, stream_handle, STREAM);
    FIND_BUFFER(buffer, stream, buffer_handle);
    if (buffer->place != UNQUEUED)
        return fail(GC_ERR_BUSY, "the buffer is still queued: flush the queues first");
    if (memory)
        *memory = buffer->is_ours ? NULL : buffer->memory;
    if (user_pointer)
        *user_pointer = buffer->user_pointer;
    buffer_free(stream, buffer);
    return GC_ERR_SUCCESS;
}

static GC_ERROR stream_queue(void *stream_handle, void *buffer_handle)
{
    FIND(stream, stream, stream_handle, STREAM);
    FIND_BUFFER(buffer, stream, buffer_handle);
    if (buffer->place != UNQUEUED)
        return fail(GC_ERR_RESOURCE_IN_USE, "the buffer is queued already");
    queue_input(stream, buffer);
    return GC_ERR_SUCCESS;
}

static void flush_input_to_output(struct stream *stream)
{
    struct buffer *buffer;
    while ((buffer = queue_take(&stream->input))) {
        buffer->ready_ns = 0;
        queue_append(&stream->output, buffer, OUTPUT);
        if (stream->event)
            stream->event->fired++;
    }
}

static void flush_unqueued_to_input(struct stream *stream)
{
    for (struct buffer *buffer = stream->buffers; buffer; buffer = buffer->next)
        if (buffer->place == UNQUEUED)
            queue_input(stream, buffer);
}

static GC_ERROR stream_flush(void *handle, int32_t operation)
{
    FIND(stream, stream, handle, STREAM);
    switch (operation) {
    case ACQ_QUEUE_INPUT_TO_OUTPUT:
        flush_input_to_output(stream);
        break;
    case ACQ_QUEUE_OUTPUT_DISCARD:
        queue_discard(&stream->output);
        break;
    case ACQ_QUEUE_ALL_TO_INPUT:
        queue_discard(&stream->output);
        flush_unqueued_to_input(stream);
        break;
    case ACQ_QUEUE_UNQUEUED_TO_INPUT:
        flush_unqueued_to_input(stream);
        break;
    case ACQ_QUEUE_ALL_DISCARD:
        queue_discard(&stream->input);
        queue_discard(&stream->output);
        break;
    default: return fail(GC_ERR_INVALID_PARAMETER, "flush operation %d is unknown", operation);
    }
    announce_change();
    return GC_ERR_SUCCESS;
}

static GC_ERROR stream_start(void *handle, uint64_t to_acquire)
{
    FIND(stream, stream, handle, STREAM);
    if (stream->grabbing)
        return fail(GC_ERR_RESOURCE_IN_USE, "the stream acquires already");
    if (to_acquire == 0)
        return fail(GC_ERR_INVALID_PARAMETER, "an acquisition of 0 frames");
    stream->grabbing = true;
    stream->to_acquire = to_acquire;
    stream->started = stream->delivered = stream->underruns = 0;
    return GC_ERR_SUCCESS;
}

/* With ACQ_STOP_FLAGS_KILL and without: a buffer that is being filled goes back to the input pool. */
static GC_ERROR stream_stop(void *handle)
{
    FIND(stream, stream, handle, STREAM);
    stream->grabbing = false;
    return settled(handle) ? GC_ERR_SUCCESS : no_such(STREAM);
}

static GC_ERROR stream_info(void *handle, int32_t command, struct reply reply)
{
    FIND(stream, stream, handle, STREAM);
    switch (command) {
    case STREAM_INFO_ID: return give_text(reply, STREAM_ID);
    case STREAM_INFO_NUM_DELIVERED: return give_uint64(reply, stream->delivered);
    case STREAM_INFO_NUM_UNDERRUN: return give_uint64(reply, stream->underruns);
    case STREAM_INFO_NUM_ANNOUNCED: return give_size(reply, stream->announced);
    case STREAM_INFO_NUM_QUEUED: return give_size(reply, stream->input.count);
    case STREAM_INFO_NUM_AWAIT_DELIVERY: return give_size(reply, count_ready(stream));
    case STREAM_INFO_NUM_STARTED: return give_uint64(reply, stream->started);
    case STREAM_INFO_PAYLOAD_SIZE: return give_size(reply, next_frame(stream->device).size);
    case STREAM_INFO_IS_GRABBING: return give_bool(reply, stream->grabbing);
    case STREAM_INFO_DEFINES_PAYLOADSIZE: return give_bool(reply, false);
    case STREAM_INFO_TLTYPE: return give_text(reply, TL_TYPE);
    case STREAM_INFO_NUM_CHUNKS_MAX: return give_size(reply, CHUNKS);
    case STREAM_INFO_BUF_ANNOUNCE_MIN:
    case STREAM_INFO_BUF_ALIGNMENT: return give_size(reply, 1);
    default: return unknown_command(command);
    }
}

static GC_ERROR stream_buffer_id(void *handle, uint32_t index, void **found)
{
    FIND(stream, stream, handle, STREAM);
    NEEDS(found);
    struct buffer *buffer = stream->buffers;
    while (buffer && index--)
        buffer = buffer->next;
    if (!buffer)
        return fail(GC_ERR_INVALID_INDEX, "only %zu buffers are announced", stream->announced);
    *found = buffer->handle;
    return GC_ERR_SUCCESS;
}

/* What an info command can say of any buffer, be there a frame in it or not. */
static GC_ERROR buffer_info(struct buffer *buffer, int32_t command, struct reply reply)
{
    switch (command) {
    case BUFFER_INFO_BASE: return give_pointer(reply, buffer->memory);
    case BUFFER_INFO_SIZE: return give_size(reply, buffer->size);
    case BUFFER_INFO_USER_PTR: return give_pointer(reply, buffer->user_pointer);
    case BUFFER_INFO_NEW_DATA: return give_bool(reply, buffer->is_new);
    case BUFFER_INFO_IS_QUEUED: return give_bool(reply, buffer->place == INPUT || buffer->place == OUTPUT);
    case BUFFER_INFO_IS_ACQUIRING: return give_bool(reply, buffer->place == FILLING);
    case BUFFER_INFO_IS_INCOMPLETE: return give_bool(reply, is_incomplete(buffer));
    case BUFFER_INFO_TLTYPE: return give_text(reply, TL_TYPE);
    case BUFFER_INFO_SIZE_FILLED: return give_size(reply, buffer->filled);
    case BUFFER_INFO_IMAGEPRESENT: return give_bool(reply, buffer->frame.id != 0);
    case BUFFER_INFO_IS_COMPOSITE: return give_bool(reply, false);
    default: return unknown_command(command);
    }
}

static bool has_chunks(const struct buffer *buffer)
{
    return buffer->frame.size > buffer->frame.image_size && !is_incomplete(buffer);
}

static size_t delivered_lines(const struct buffer *buffer)
{
    size_t lines = buffer->filled / (buffer->frame.image_size / buffer->frame.height);
    return lines < buffer->frame.height ? lines : buffer->frame.height;
}

static GC_ERROR frame_info(const struct buffer *buffer, int32_t command, struct reply reply)
{
    const struct frame *frame = &buffer->frame;
    switch (command) {
    case BUFFER_INFO_TIMESTAMP: /* in ticks of a nanosecond */
    case BUFFER_INFO_TIMESTAMP_NS: return give_uint64(reply, frame->timestamp_ns);
    case BUFFER_INFO_WIDTH: return give_size(reply, frame->width);
    case BUFFER_INFO_HEIGHT: return give_size(reply, frame->height);
    case BUFFER_INFO_XOFFSET: return give_size(reply, frame->x);
    case BUFFER_INFO_YOFFSET: return give_size(reply, frame->y);
    case BUFFER_INFO_XPADDING: return give_size(reply, frame->padding);
    case BUFFER_INFO_YPADDING:
    case BUFFER_INFO_IMAGEOFFSET: return give_size(reply, 0);
    case BUFFER_INFO_FRAMEID: return give_uint64(reply, frame->id);
    case BUFFER_INFO_PAYLOADTYPE: return give_size(reply, PAYLOAD_TYPE_IMAGE);
    case BUFFER_INFO_PIXELFORMAT: return give_uint64(reply, frame->format->code);
    case BUFFER_INFO_PIXELFORMAT_NAMESPACE: return give_uint64(reply, PIXELFORMAT_NAMESPACE_PFNC_32BIT);
    case BUFFER_INFO_DELIVERED_IMAGEHEIGHT: return give_size(reply, delivered_lines(buffer));
    case BUFFER_INFO_DELIVERED_CHUNKPAYLOADSIZE: return give_size(reply, frame->size - frame->image_size);
    case BUFFER_INFO_PIXEL_ENDIANNESS: return give_int32(reply, PIXELENDIANNESS_LITTLE);
    case BUFFER_INFO_DATA_SIZE: return give_size(reply, frame->size);
    case BUFFER_INFO_DATA_LARGER_THAN_BUFFER: return give_bool(reply, frame->size > buffer->size);
    case BUFFER_INFO_CONTAINS_CHUNKDATA: return give_bool(reply, has_chunks(buffer));
    default: return unknown_command(command);
    }
}

static bool is_frame_info(int32_t command)
{
    return command == BUFFER_INFO_TIMESTAMP || (command >= BUFFER_INFO_WIDTH && command <= BUFFER_INFO_FRAMEID) ||
           (command >= BUFFER_INFO_IMAGEOFFSET && command <= BUFFER_INFO_CONTAINS_CHUNKDATA);
}

static GC_ERROR stream_buffer_info(void *stream_handle, void *buffer_handle, int32_t command, struct reply reply)
{
    FIND(stream, stream, stream_handle, STREAM);
    FIND_BUFFER(buffer, stream, buffer_handle);
    if (!is_frame_info(command))
        return buffer_info(buffer, command, reply);
    if (!buffer->frame.id)
        return fail(GC_ERR_NOT_AVAILABLE, "there is no frame in this buffer");
    return frame_info(buffer, command, reply);
}

static GC_ERROR stream_buffer_infos(void *stream, void *buffer, struct buffer_info_stacked *infos, size_t count)
{
    NEEDS(infos);
    for (struct buffer_info_stacked *info = infos; info < infos + count; info++) {
        int32_t type = 0;
        size_t size = info->size;
        info->result = stream_buffer_info(stream, buffer, info->command, (struct reply){&type, info->buffer, &size});
        info->type = type;
        info->size = size;
    }
    return GC_ERR_SUCCESS;
}

static GC_ERROR stream_chunks(void *stream_handle, void *buffer_handle, struct single_chunk_data *chunks, size_t *count)
{
    FIND(stream, stream, stream_handle, STREAM);
    FIND_BUFFER(buffer, stream, buffer_handle);
    const struct frame *frame = &buffer->frame;
    struct single_chunk_data found[CHUNKS];
    size_t number = 0;
    for (int chunk = 0; chunk < CHUNKS && has_chunks(buffer); chunk++)
        if (frame->chunks[chunk]) {
            ptrdiff_t offset = (ptrdiff_t)(frame->image_size + number * CHUNK_SIZE);
            found[number++] = (struct single_chunk_data){(uint64_t)chunk + 1, offset, CHUNK_SIZE};
        }
    size_t size = count ? *count * sizeof *found : 0;
    GC_ERROR error = give((struct reply){NULL, chunks, count ? &size : NULL}, 0, found, number * sizeof *found);
    if (count)
        *count = number;
    return error;
}

/* -------------------------------------------------------------------------------------------------- Modules ------ */

static struct {
    bool is_open; /* GCInitLib was called */
    void *system, *interface;
    bool was_updated;
    struct device *devices; /* that are open */
    struct identity *listed;
    size_t listed_count;
} library;

/* --- events: EVENT_NEW_BUFFER on a stream is the only one */

static GC_ERROR event_register(void *source, int32_t type, void **registered)
{
    NEEDS(registered);
    struct stream *stream = handle_find(source, STREAM);
    if (!handle_entry(source))
        return fail(GC_ERR_INVALID_HANDLE, "this is no handle of an open module");
    if (!stream || type != EVENT_NEW_BUFFER)
        return fail(GC_ERR_NOT_IMPLEMENTED, "only the stream has an event, EVENT_NEW_BUFFER");
    if (stream->event)
        return fail(GC_ERR_RESOURCE_IN_USE, "the event is registered already");
    struct event *event = calloc(1, sizeof *event);
    void *handle = event ? handle_new(EVENT, event) : NULL;
    if (!handle) {
        free(event);
        return fail(GC_ERR_OUT_OF_MEMORY, "no memory for an event");
    }
    *event = (struct event){.handle = handle, .stream = stream};
    stream->event = event;
    *registered = handle;
    return GC_ERR_SUCCESS;
}

static GC_ERROR event_unregister(void *source, int32_t type)
{
    FIND(stream, stream, source, STREAM);
    if (type != EVENT_NEW_BUFFER || !stream->event)
        return fail(GC_ERR_INVALID_PARAMETER, "event %d is not registered", type);
    event_free(stream);
    return GC_ERR_SUCCESS;
}

static bool is_ready(const struct stream *stream)
{
    return stream->output.first && stream->output.first->ready_ns <= now_ns() && !is_lost(stream->device);
}

static GC_ERROR take_event_data(struct event *event, struct reply reply)
{
    struct buffer *buffer = event->stream->output.first;
    struct event_new_buffer data = {buffer->handle, buffer->user_pointer};
    GC_ERROR error = give(reply, 0, &data, sizeof data);
    if (!error && reply.buffer)
        queue_take(&event->stream->output);
    return error;
}

static void wait_for_event(const struct event *event, int64_t until_ns)
{
    const struct buffer *first = event->stream->output.first;
    if (event->stream->device->stage->hang)
        wait_until(now_ns() + SLOW_POLL_NS);
    else
        wait_until(first && first->ready_ns > now_ns() && first->ready_ns < until_ns ? first->ready_ns : until_ns);
}

static int64_t deadline_ns(uint64_t timeout_ms)
{
    const int64_t a_year_ms = 365LL * 24 * 3600 * 1000;
    return now_ns() + (int64_t)(timeout_ms < (uint64_t)a_year_ms ? (int64_t)timeout_ms : a_year_ms) * 1000000;
}

static GC_ERROR event_data(void *handle, struct reply reply, uint64_t timeout_ms)
{
    NEEDS(reply.size);
    int64_t until_ns = deadline_ns(timeout_ms);
    FIND(event, first, handle, EVENT);
    for (struct event *event = first; event; event = handle_find(handle, EVENT)) {
        bool hangs = event->stream->device->stage->hang;
        if (event->kills > 0) {
            event->kills--;
            return fail(GC_ERR_ABORT, "EventKill was called");
        }
        if (!hangs && is_ready(event->stream))
            return take_event_data(event, reply);
        if (!hangs && now_ns() >= until_ns)
            return fail(GC_ERR_TIMEOUT, "no buffer within %llu ms", (unsigned long long)timeout_ms);
        wait_for_event(event, until_ns);
    }
    return fail(GC_ERR_ABORT, "the event was unregistered");
}

static GC_ERROR event_data_info(void *handle, const void *data, size_t size, int32_t command, struct reply reply)
{
    CHECK(handle, EVENT);
    NEEDS(data);
    struct event_new_buffer given;
    if (size < sizeof given)
        return fail(GC_ERR_INVALID_PARAMETER, "event data of %zu bytes", size);
    memcpy(&given, data, sizeof given);
    switch (command) {
    case EVENT_DATA_ID: return give_pointer(reply, given.buffer);
    case EVENT_DATA_VALUE: return give_pointer(reply, given.user_pointer);
    default: return unknown_command(command);
    }
}

static GC_ERROR event_info(void *handle, int32_t command, struct reply reply)
{
    FIND(event, event, handle, EVENT);
    switch (command) {
    case EVENT_EVENT_TYPE: return give_int32(reply, EVENT_NEW_BUFFER);
    case EVENT_NUM_IN_QUEUE: return give_size(reply, count_ready(event->stream));
    case EVENT_NUM_FIRED: return give_uint64(reply, event->fired);
    case EVENT_SIZE_MAX: return give_size(reply, sizeof(struct event_new_buffer));
    case EVENT_INFO_DATA_SIZE_MAX: return give_size(reply, sizeof(void *));
    default: return unknown_command(command);
    }
}

/* The buffers whose events are forgotten wait outside of all queues for ACQ_QUEUE_UNQUEUED_TO_INPUT. */
static GC_ERROR event_flush(void *handle)
{
    FIND(event, event, handle, EVENT);
    queue_discard(&event->stream->output);
    return GC_ERR_SUCCESS;
}

/* Ends one wait, or the next one if nobody waits. */
static GC_ERROR event_kill(void *handle)
{
    FIND(event, event, handle, EVENT);
    event->kills++;
    announce_change();
    return GC_ERR_SUCCESS;
}

/* --- device */

static void identify(const struct stage *stage, struct identity *identity)
{
    snprintf(identity->name, sizeof identity->name, "%.*s", (int)sizeof stage->name - 1, stage->name);
    snprintf(identity->serial, sizeof identity->serial, "%.*s", (int)sizeof stage->serial - 1, stage->serial);
    snprintf(identity->user_id, sizeof identity->user_id, "%.*s", (int)sizeof stage->user_id - 1, stage->user_id);
    snprintf(identity->id, sizeof identity->id, "simulated:%s", identity->name);
}

static struct device *open_device(const char *path)
{
    struct device *device = library.devices;
    while (device && strcmp(device->identity.path, path) != 0)
        device = device->next;
    return device;
}

static int32_t access_status(const char *path)
{
    const struct device *device = open_device(path);
    if (device && !is_lost(device))
        return DEVICE_ACCESS_STATUS_OPEN_READWRITE;
    struct stage_file opened;
    if (!stage_open(path, &opened))
        return DEVICE_ACCESS_STATUS_NOACCESS;
    int32_t status = DEVICE_ACCESS_STATUS_READWRITE;
    if (!opened.stage->present)
        status = DEVICE_ACCESS_STATUS_NOACCESS;
    else if (is_locked(opened.file, CAMERA_BYTE))
        status = DEVICE_ACCESS_STATUS_BUSY;
    stage_close(&opened);
    return status;
}

static GC_ERROR identity_info(const struct identity *identity, int32_t command, struct reply reply)
{
    char display[160];
    switch (command) {
    case DEVICE_INFO_ID: return give_text(reply, identity->id);
    case DEVICE_INFO_VENDOR: return give_text(reply, VENDOR);
    case DEVICE_INFO_MODEL: return give_text(reply, MODEL);
    case DEVICE_INFO_TLTYPE: return give_text(reply, TL_TYPE);
    case DEVICE_INFO_DISPLAYNAME:
        snprintf(display, sizeof display, "%s %s (%s)", VENDOR, MODEL, identity->name);
        return give_text(reply, display);
    case DEVICE_INFO_ACCESS_STATUS: return give_int32(reply, access_status(identity->path));
    case DEVICE_INFO_USER_DEFINED_NAME: return give_text(reply, identity->user_id);
    case DEVICE_INFO_SERIAL_NUMBER: return give_text(reply, identity->serial);
    case DEVICE_INFO_VERSION: return give_text(reply, VERSION);
    case DEVICE_INFO_TIMESTAMP_FREQUENCY: return give_uint64(reply, 1000000000);
    default: return unknown_command(command);
    }
}

static GC_ERROR device_info(void *handle, int32_t command, struct reply reply)
{
    FIND(device, device, handle, DEVICE);
    identify(device->stage, &device->identity);
    return identity_info(&device->identity, command, reply);
}

static void device_free(struct device *device)
{
    struct device **link = &library.devices;
    while (*link && *link != device)
        link = &(*link)->next;
    if (*link)
        *link = device->next;
    handle_free(device->remote_handle);
    handle_free(device->handle);
    stage_close(&device->opened); /* and with the file its lock */
    free(device->memory);
    free(device->between[0]);
    free(device);
}

static GC_ERROR device_close(void *handle)
{
    struct device *device = camera_stop(handle);
    if (device && device->stream) {
        stream_close(device->stream->handle);
        device = handle_find(handle, DEVICE);
    }
    if (!device)
        return no_such(DEVICE);
    device_free(device);
    return GC_ERR_SUCCESS;
}

/* Takes over the opened stage. */
static struct device *device_new(const struct identity *identity, struct stage_file opened)
{
    struct device *device = calloc(1, sizeof *device);
    uint8_t *lines = malloc((size_t)2 * 3 * opened.stage->width);
    void *handle = device && lines ? handle_new(DEVICE, device) : NULL;
    void *remote_handle = handle ? handle_new(REMOTE_DEVICE, device) : NULL;
    if (!remote_handle) {
        handle_free(handle);
        free(lines);
        free(device);
        stage_close(&opened);
        return NULL;
    }
    const struct stage *stage = opened.stage;
    *device = (struct device){
        .handle = handle,
        .remote_handle = remote_handle,
        .identity = *identity,
        .opened = opened,
        .stage = opened.stage,
        .power_cycles = stage->power_cycles,
        .width = stage->width,
        .height = stage->height,
        .channels = stage->channels,
        .slots = stage->slots,
        .pictures = (const uint8_t *)stage + stage->header_size,
        .between = {lines, lines + (size_t)3 * stage->width},
    };
    return device;
}

/* Opens the camera's file and makes it ours alone. */
static GC_ERROR device_connect(const struct identity *identity, struct stage_file *opened)
{
    if (!stage_open(identity->path, opened))
        return fail(GC_ERR_IO, "the camera %s does not answer", identity->id);
    GC_ERROR error = GC_ERR_SUCCESS;
    if (!opened->stage->present)
        error = fail(GC_ERR_IO, "the camera %s does not answer", identity->id);
    else if (!take_lock(opened->file, CAMERA_BYTE))
        error = fail(GC_ERR_RESOURCE_IN_USE, "the camera %s is open already", identity->id);
    if (error)
        stage_close(opened);
    return error;
}

static GC_ERROR device_open(const struct identity *identity, int32_t access, void **handle)
{
    if (access == DEVICE_ACCESS_READONLY)
        return fail(GC_ERR_NOT_IMPLEMENTED, "the camera is opened to control it, or not at all");
    if (access != DEVICE_ACCESS_CONTROL && access != DEVICE_ACCESS_EXCLUSIVE)
        return fail(GC_ERR_INVALID_PARAMETER, "access %d is unknown", access);
    struct stage_file opened;
    GC_ERROR error = device_connect(identity, &opened);
    if (error)
        return error;
    struct device *device = device_new(identity, opened);
    if (!device)
        return fail(GC_ERR_OUT_OF_MEMORY, "no memory for a device");
    camera_reset(device);
    arm(device, 0); /* a process that died may have left it armed */
    device->stage->acquiring = 0;
    device->stage->opens++;
    device->next = library.devices;
    library.devices = device;
    *handle = device->handle;
    return GC_ERR_SUCCESS;
}

static GC_ERROR device_port(void *handle, void **port)
{
    FIND(device, device, handle, DEVICE);
    NEEDS(port);
    *port = device->remote_handle;
    return GC_ERR_SUCCESS;
}

static GC_ERROR device_stream_count(void *handle, uint32_t *count)
{
    CHECK(handle, DEVICE);
    NEEDS(count);
    *count = 1;
    return GC_ERR_SUCCESS;
}

static GC_ERROR device_stream_id(void *handle, uint32_t index, struct reply reply)
{
    CHECK(handle, DEVICE);
    return index == 0 ? give_text(reply, STREAM_ID) : fail(GC_ERR_INVALID_INDEX, "there is one stream");
}

static GC_ERROR device_open_stream(void *handle, const char *id, void **stream)
{
    FIND(device, device, handle, DEVICE);
    NEEDS(id);
    if (strcmp(id, STREAM_ID) != 0)
        return fail(GC_ERR_INVALID_ID, "there is no stream %s", id);
    return stream_open(device, stream);
}

/* --- interface */

static bool list_stage(const char *path, struct identity *identity)
{
    struct stage_file opened;
    if (!stage_open(path, &opened))
        return false;
    bool is_present = opened.stage->present;
    snprintf(identity->path, sizeof identity->path, "%s", path);
    identify(opened.stage, identity);
    stage_close(&opened);
    return is_present;
}

static int is_stage_file(const struct dirent *entry)
{
    size_t length = strlen(entry->d_name);
    return entry->d_name[0] != '.' && length > 6 && strcmp(entry->d_name + length - 6, ".stage") == 0;
}

/* The cameras that are there now, by the name of their files; the caller frees the list. */
static size_t list_stages(struct identity **listed)
{
    char folder[PATH_MAX], path[PATH_MAX];
    struct dirent **entries = NULL;
    stage_folder(folder);
    int found = scandir(folder, &entries, is_stage_file, alphasort);
    size_t count = 0;
    *listed = calloc(found > 0 ? (size_t)found : 1, sizeof **listed);
    for (int i = 0; i < found; i++) {
        bool fits = (size_t)snprintf(path, sizeof path, "%s/%s", folder, entries[i]->d_name) < sizeof path;
        if (*listed && fits)
            count += list_stage(path, &(*listed)[count]);
        free(entries[i]);
    }
    free(entries);
    return count;
}

static bool is_same_list(const struct identity *listed, size_t count)
{
    if (count != library.listed_count)
        return false;
    for (size_t i = 0; i < count; i++)
        if (strcmp(listed[i].id, library.listed[i].id) != 0)
            return false;
    return true;
}

static GC_ERROR interface_update(void *handle, bool8_t *has_changed)
{
    CHECK(handle, INTERFACE);
    struct identity *listed;
    size_t count = list_stages(&listed);
    if (has_changed)
        *has_changed = !is_same_list(listed, count);
    free(library.listed);
    library.listed = listed;
    library.listed_count = count;
    return GC_ERR_SUCCESS;
}

static GC_ERROR interface_device_count(void *handle, uint32_t *count)
{
    CHECK(handle, INTERFACE);
    NEEDS(count);
    *count = (uint32_t)library.listed_count;
    return GC_ERR_SUCCESS;
}

static GC_ERROR interface_device_id(void *handle, uint32_t index, struct reply reply)
{
    CHECK(handle, INTERFACE);
    if (index >= library.listed_count)
        return fail(GC_ERR_INVALID_INDEX, "there are %zu cameras", library.listed_count);
    return give_text(reply, library.listed[index].id);
}

static const struct identity *find_listed(const char *id)
{
    for (size_t i = 0; i < library.listed_count; i++)
        if (strcmp(library.listed[i].id, id) == 0)
            return &library.listed[i];
    return NULL;
}

static GC_ERROR interface_device_info(void *handle, const char *id, int32_t command, struct reply reply)
{
    CHECK(handle, INTERFACE);
    NEEDS(id);
    const struct identity *identity = find_listed(id);
    return identity ? identity_info(identity, command, reply) : fail(GC_ERR_INVALID_ID, "there is no camera %s", id);
}

static GC_ERROR interface_open_device(void *handle, const char *id, int32_t access, void **device)
{
    CHECK(handle, INTERFACE);
    NEEDS(id);
    NEEDS(device);
    const struct identity *identity = find_listed(id);
    return identity ? device_open(identity, access, device) : fail(GC_ERR_INVALID_ID, "there is no camera %s", id);
}

static GC_ERROR interface_info(int32_t command, struct reply reply)
{
    switch (command) {
    case INTERFACE_INFO_ID: return give_text(reply, INTERFACE_ID);
    case INTERFACE_INFO_DISPLAYNAME: return give_text(reply, "Stages in shared memory");
    case INTERFACE_INFO_TLTYPE: return give_text(reply, TL_TYPE);
    default: return unknown_command(command);
    }
}

static GC_ERROR interface_info_of(void *handle, int32_t command, struct reply reply)
{
    CHECK(handle, INTERFACE);
    return interface_info(command, reply);
}

static GC_ERROR interface_close(void *handle)
{
    CHECK(handle, INTERFACE);
    while (library.devices)
        device_close(library.devices->handle);
    free(library.listed);
    library.listed = NULL;
    library.listed_count = 0;
    handle_free(library.interface);
    library.interface = NULL;
    return GC_ERR_SUCCESS;
}

/* --- system */

static const char *library_path(void)
{
    Dl_info info;
    return dladdr(&library, &info) && info.dli_fname ? info.dli_fname : "";
}

static GC_ERROR library_info(int32_t command, struct reply reply)
{
    const char *path = library_path(), *slash = strrchr(path, '/');
    switch (command) {
    case TL_INFO_ID: return give_text(reply, "inspector");
    case TL_INFO_VENDOR: return give_text(reply, VENDOR);
    case TL_INFO_MODEL: return give_text(reply, "Simulated cameras");
    case TL_INFO_VERSION: return give_text(reply, VERSION);
    case TL_INFO_TLTYPE: return give_text(reply, TL_TYPE);
    case TL_INFO_NAME: return give_text(reply, slash ? slash + 1 : path);
    case TL_INFO_PATHNAME: return give_text(reply, path);
    case TL_INFO_DISPLAYNAME: return give_text(reply, "Inspector simulated cameras");
    case TL_INFO_CHAR_ENCODING: return give_int32(reply, TL_CHAR_ENCODING_UTF8);
    case TL_INFO_GENTL_VER_MAJOR: return give_uint32(reply, 1);
    case TL_INFO_GENTL_VER_MINOR: return give_uint32(reply, 6);
    default: return unknown_command(command);
    }
}

static GC_ERROR system_open(void **handle)
{
    NEEDS(handle);
    if (library.system)
        return fail(GC_ERR_RESOURCE_IN_USE, "the system is open already");
    library.system = handle_new(SYSTEM, &library);
    if (!library.system)
        return fail(GC_ERR_OUT_OF_MEMORY, "no memory for the system");
    *handle = library.system;
    return GC_ERR_SUCCESS;
}

static GC_ERROR system_close(void *handle)
{
    CHECK(handle, SYSTEM);
    if (library.interface)
        interface_close(library.interface);
    handle_free(library.system);
    library.system = NULL;
    return GC_ERR_SUCCESS;
}

static GC_ERROR system_info(void *handle, int32_t command, struct reply reply)
{
    CHECK(handle, SYSTEM);
    return library_info(command, reply);
}

static GC_ERROR system_interface_count(void *handle, uint32_t *count)
{
    CHECK(handle, SYSTEM);
    NEEDS(count);
    *count = 1;
    return GC_ERR_SUCCESS;
}

static GC_ERROR system_interface_id(void *handle, uint32_t index, struct reply reply)
{
    CHECK(handle, SYSTEM);
    return index == 0 ? give_text(reply, INTERFACE_ID) : fail(GC_ERR_INVALID_INDEX, "there is one interface");
}

static GC_ERROR check_interface_id(void *system, const char *id)
{
    CHECK(system, SYSTEM);
    NEEDS(id);
    return strcmp(id, INTERFACE_ID) == 0 ? GC_ERR_SUCCESS : fail(GC_ERR_INVALID_ID, "there is no interface %s", id);
}

static GC_ERROR system_interface_info(void *handle, const char *id, int32_t command, struct reply reply)
{
    GC_ERROR error = check_interface_id(handle, id);
    return error ? error : interface_info(command, reply);
}

static GC_ERROR system_open_interface(void *handle, const char *id, void **interface)
{
    GC_ERROR error = check_interface_id(handle, id);
    if (error)
        return error;
    NEEDS(interface);
    if (library.interface)
        return fail(GC_ERR_RESOURCE_IN_USE, "the interface is open already");
    library.interface = handle_new(INTERFACE, &library);
    if (!library.interface)
        return fail(GC_ERR_OUT_OF_MEMORY, "no memory for the interface");
    *interface = library.interface;
    return GC_ERR_SUCCESS;
}

/* There is always the one interface; only the first update finds something new. */
static GC_ERROR system_update(void *handle, bool8_t *has_changed)
{
    CHECK(handle, SYSTEM);
    if (has_changed)
        *has_changed = !library.was_updated;
    library.was_updated = true;
    return GC_ERR_SUCCESS;
}

/* --- library */

static GC_ERROR library_open(void)
{
    if (library.is_open)
        return fail(GC_ERR_RESOURCE_IN_USE, "GCInitLib was called before");
    library.is_open = true;
    return GC_ERR_SUCCESS;
}

static GC_ERROR library_close(void)
{
    if (library.system)
        system_close(library.system);
    library.is_open = library.was_updated = false;
    return GC_ERR_SUCCESS;
}

/* --- parents */

static GC_ERROR give_handle(void *handle, void **parent)
{
    NEEDS(parent);
    *parent = handle;
    return GC_ERR_SUCCESS;
}

static GC_ERROR interface_parent(void *handle, void **parent)
{
    CHECK(handle, INTERFACE);
    return give_handle(library.system, parent);
}

static GC_ERROR device_parent(void *handle, void **parent)
{
    CHECK(handle, DEVICE);
    return give_handle(library.interface, parent);
}

static GC_ERROR stream_parent(void *handle, void **parent)
{
    FIND(stream, stream, handle, STREAM);
    return give_handle(stream->device->handle, parent);
}

/* --- ports: that of the remote device is the camera's, those of the other modules say who they are */

static const char MODULE_XML[] =
    "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n"
    "<RegisterDescription ModelName=\"Module\" VendorName=\"Inspector\" StandardNameSpace=\"None\"\n"
    "    SchemaMajorVersion=\"1\" SchemaMinorVersion=\"1\" SchemaSubMinorVersion=\"0\"\n"
    "    MajorVersion=\"1\" MinorVersion=\"0\" SubMinorVersion=\"0\"\n"
    "    ProductGuid=\"B6F4D2C1-8E0B-4C55-A3D4-2F6E9D1A7C10\" VersionGuid=\"5A0F8B1E-93C7-4D1C-8B7A-6E2D4C9F0B33\"\n"
    "    xmlns=\"http://www.genicam.org/GenApi/Version_1_1\">\n"
    "  <Category Name=\"Root\" NameSpace=\"Standard\"><pFeature>ModuleID</pFeature></Category>\n"
    "  <StringReg Name=\"ModuleID\"><ToolTip>Unique ID of the module.</ToolTip><Address>0</Address>\n"
    "    <Length>64</Length><AccessMode>RO</AccessMode><pPort>ModulePort</pPort></StringReg>\n"
    "  <Port Name=\"ModulePort\"/>\n"
    "</RegisterDescription>\n";

struct description {
    const char *file;
    const char *port;
    const char *xml;
    size_t size;
};

static struct description description_of(enum kind kind)
{
    if (kind == REMOTE_DEVICE)
        return (struct description){"inspector_simulated_camera.xml", "Device", camera_xml,
                                    (size_t)(camera_xml_end - camera_xml)};
    return (struct description){"inspector_module.xml", "ModulePort", MODULE_XML, sizeof MODULE_XML - 1};
}

/* The standard's names of modules. */
static const char *module_name(enum kind kind)
{
    static const char *const names[] = {"",       "TLSystem",     "TLInterface", "TLDevice",
                                        "Device", "TLDataStream", "TLBuffer",    ""};
    return names[kind];
}

static const char *module_id(const struct entry *module)
{
    switch (module->kind) {
    case SYSTEM: return "inspector";
    case INTERFACE: return INTERFACE_ID;
    case DEVICE:
    case REMOTE_DEVICE: return ((const struct device *)module->object)->identity.id;
    default: return STREAM_ID;
    }
}

/* Of the module, or of the camera that a remote device stands for; NULL when nothing is open under this handle. */
static struct entry *find_port(void *handle)
{
    struct entry *entry = handle_entry(handle);
    return entry && entry->kind != EVENT ? entry : NULL;
}

static GC_ERROR no_port(void)
{
    return fail(GC_ERR_INVALID_HANDLE, "this is no handle of an open port");
}

static const struct device *camera_behind(const struct entry *port)
{
    return port && port->kind == REMOTE_DEVICE ? port->object : NULL;
}

/* The port, found again after each wait: a camera that hangs keeps the caller waiting. */
static struct entry *answering_port(void *handle)
{
    struct entry *port;
    while ((port = find_port(handle)) && camera_behind(port) && camera_behind(port)->stage->hang)
        wait_until(now_ns() + SLOW_POLL_NS);
    return port;
}

static GC_ERROR module_read(const struct entry *module, uint64_t address, void *buffer, size_t size)
{
    char id[TEXT_LENGTH] = {0};
    memcpy(id, module_id(module), strnlen(module_id(module), sizeof id - 1));
    return read_bytes(id, sizeof id, address, buffer, size);
}

static GC_ERROR port_read(void *handle, uint64_t address, void *buffer, size_t *size)
{
    NEEDS(buffer);
    NEEDS(size);
    struct entry *port = answering_port(handle);
    if (!port)
        return no_port();
    if (camera_behind(port) && is_lost(port->object))
        return does_not_answer(port->object);
    struct description description = description_of(port->kind);
    if (address >= XML_AT)
        return read_bytes(description.xml, description.size, address - XML_AT, buffer, *size);
    return camera_behind(port) ? camera_read(port->object, address, buffer, *size)
                               : module_read(port, address, buffer, *size);
}

static GC_ERROR port_write(void *handle, uint64_t address, const void *buffer, size_t *size)
{
    NEEDS(buffer);
    NEEDS(size);
    struct entry *port = answering_port(handle);
    if (!port)
        return no_port();
    if (!camera_behind(port))
        return fail(GC_ERR_ACCESS_DENIED, "the %s has nothing to write to", KIND_NAMES[port->kind]);
    if (is_lost(port->object))
        return does_not_answer(port->object);
    return camera_write(port->object, address, buffer, *size);
}

/* Ends at the first failure and says how many went well. */
static GC_ERROR port_stacked(void *handle, struct register_stack_entry *entries, size_t *count, bool is_write)
{
    NEEDS(entries);
    NEEDS(count);
    GC_ERROR error = GC_ERR_SUCCESS;
    size_t done = 0;
    for (; done < *count && !error; done += !error) {
        struct register_stack_entry *entry = &entries[done];
        size_t size = entry->size;
        error = is_write ? port_write(handle, entry->address, entry->buffer, &size)
                         : port_read(handle, entry->address, entry->buffer, &size);
    }
    *count = done;
    return error;
}

static GC_ERROR port_url_count(void *handle, uint32_t *count)
{
    NEEDS(count);
    if (!find_port(handle))
        return no_port();
    *count = 1;
    return GC_ERR_SUCCESS;
}

static GC_ERROR url_text(struct description description, struct reply reply)
{
    char url[96];
    snprintf(url, sizeof url, "local:%s;%x;%zx", description.file, XML_AT, description.size);
    return give_text(reply, url);
}

static GC_ERROR url_info(struct description description, int32_t command, struct reply reply)
{
    switch (command) {
    case URL_INFO_URL: return url_text(description, reply);
    case URL_INFO_SCHEMA_VER_MAJOR:
    case URL_INFO_SCHEMA_VER_MINOR:
    case URL_INFO_FILE_VER_MAJOR: return give_int32(reply, 1);
    case URL_INFO_FILE_VER_MINOR:
    case URL_INFO_FILE_VER_SUBMINOR: return give_int32(reply, 0);
    case URL_INFO_FILE_REGISTER_ADDRESS: return give_uint64(reply, XML_AT);
    case URL_INFO_FILE_SIZE: return give_uint64(reply, description.size);
    case URL_INFO_SCHEME: return give_int32(reply, URL_SCHEME_LOCAL);
    case URL_INFO_FILENAME: return give_text(reply, description.file);
    default: return unknown_command(command);
    }
}

static GC_ERROR port_url_info(void *handle, uint32_t index, int32_t command, struct reply reply)
{
    struct entry *port = find_port(handle);
    if (!port)
        return no_port();
    if (index > 0)
        return fail(GC_ERR_INVALID_INDEX, "there is one description");
    return url_info(description_of(port->kind), command, reply);
}

static GC_ERROR port_info(void *handle, int32_t command, struct reply reply)
{
    struct entry *port = find_port(handle);
    if (!port)
        return no_port();
    bool is_camera = camera_behind(port) != NULL, answers = !is_camera || !is_lost(port->object);
    switch (command) {
    case PORT_INFO_ID: return give_text(reply, module_id(port));
    case PORT_INFO_VENDOR: return give_text(reply, VENDOR);
    case PORT_INFO_MODEL: return give_text(reply, MODEL);
    case PORT_INFO_TLTYPE: return give_text(reply, TL_TYPE);
    case PORT_INFO_MODULE: return give_text(reply, module_name(port->kind));
    case PORT_INFO_PORTNAME: return give_text(reply, description_of(port->kind).port);
    case PORT_INFO_LITTLE_ENDIAN: return give_bool(reply, true);
    case PORT_INFO_BIG_ENDIAN: return give_bool(reply, false);
    case PORT_INFO_ACCESS_READ: return give_bool(reply, answers);
    case PORT_INFO_ACCESS_WRITE: return give_bool(reply, is_camera && answers);
    case PORT_INFO_ACCESS_NA: return give_bool(reply, !answers);
    case PORT_INFO_ACCESS_NI: return give_bool(reply, false);
    case PORT_INFO_VERSION: return give_text(reply, VERSION);
    default: return unknown_command(command);
    }
}

/* -------------------------------------------------------------------------------------------------- Exports ------ */

#define GC_API __attribute__((visibility("default"))) GC_ERROR
#define REPLY ((struct reply){type, buffer, size})

__attribute__((constructor)) static void set_up(void)
{
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&changed, &attributes);
    pthread_condattr_destroy(&attributes);
}

/* The stage's switch `abort`: the process dies in its next call, once. */
static void abort_if_told(void)
{
    for (struct device *device = library.devices; device; device = device->next)
        if (device->stage->abort && atomic_exchange(&device->stage->abort, 0))
            abort();
}

static void enter(void)
{
    pthread_mutex_lock(&lock);
    abort_if_told();
}

static GC_ERROR leave(GC_ERROR error)
{
    pthread_mutex_unlock(&lock);
    return error;
}

static GC_ERROR not_initialised(void)
{
    return fail(GC_ERR_NOT_INITIALIZED, "GCInitLib was not called");
}

static GC_ERROR not_implemented(void)
{
    return fail(GC_ERR_NOT_IMPLEMENTED, "this function is not implemented");
}

#define LOCKED(call) (enter(), leave(library.is_open ? (call) : not_initialised()))

GC_API GCInitLib(void)
{
    enter();
    return leave(library_open());
}

GC_API GCCloseLib(void) { return LOCKED(library_close()); }

GC_API GCGetInfo(int32_t command, int32_t *type, void *buffer, size_t *size)
{
    return library_info(command, REPLY); /* also before GCInitLib */
}

GC_API GCGetLastError(GC_ERROR *code, char *text, size_t *size)
{
    NEEDS(code);
    *code = last_error.code;
    return give_text((struct reply){NULL, text, size}, last_error.code ? last_error.text : "no error");
}

GC_API GCReadPort(void *port, uint64_t address, void *buffer, size_t *size)
{
    return LOCKED(port_read(port, address, buffer, size));
}

GC_API GCWritePort(void *port, uint64_t address, const void *buffer, size_t *size)
{
    return LOCKED(port_write(port, address, buffer, size));
}

GC_API GCReadPortStacked(void *port, struct register_stack_entry *entries, size_t *count)
{
    return LOCKED(port_stacked(port, entries, count, false));
}

GC_API GCWritePortStacked(void *port, struct register_stack_entry *entries, size_t *count)
{
    return LOCKED(port_stacked(port, entries, count, true));
}

GC_API GCGetPortURL(void *port, char *url, size_t *size)
{
    return LOCKED(port_url_info(port, 0, URL_INFO_URL, (struct reply){NULL, url, size}));
}

GC_API GCGetNumPortURLs(void *port, uint32_t *count) { return LOCKED(port_url_count(port, count)); }

GC_API GCGetPortURLInfo(void *port, uint32_t index, int32_t command, int32_t *type, void *buffer, size_t *size)
{
    return LOCKED(port_url_info(port, index, command, REPLY));
}

GC_API GCGetPortInfo(void *port, int32_t command, int32_t *type, void *buffer, size_t *size)
{
    return LOCKED(port_info(port, command, REPLY));
}

GC_API GCRegisterEvent(void *source, int32_t event, void **handle)
{
    return LOCKED(event_register(source, event, handle));
}

GC_API GCUnregisterEvent(void *source, int32_t event) { return LOCKED(event_unregister(source, event)); }

GC_API EventGetData(void *event, void *buffer, size_t *size, uint64_t timeout_ms)
{
    return LOCKED(event_data(event, (struct reply){NULL, buffer, size}, timeout_ms));
}

GC_API EventGetDataInfo(void *event, const void *data, size_t data_size, int32_t command, int32_t *type, void *buffer,
                        size_t *size)
{
    return LOCKED(event_data_info(event, data, data_size, command, REPLY));
}

GC_API EventGetInfo(void *event, int32_t command, int32_t *type, void *buffer, size_t *size)
{
    return LOCKED(event_info(event, command, REPLY));
}

GC_API EventFlush(void *event) { return LOCKED(event_flush(event)); }

GC_API EventKill(void *event) { return LOCKED(event_kill(event)); }

GC_API TLOpen(void **system) { return LOCKED(system_open(system)); }

GC_API TLClose(void *system) { return LOCKED(system_close(system)); }

GC_API TLGetInfo(void *system, int32_t command, int32_t *type, void *buffer, size_t *size)
{
    return LOCKED(system_info(system, command, REPLY));
}

GC_API TLGetNumInterfaces(void *system, uint32_t *count) { return LOCKED(system_interface_count(system, count)); }

GC_API TLGetInterfaceID(void *system, uint32_t index, char *id, size_t *size)
{
    return LOCKED(system_interface_id(system, index, (struct reply){NULL, id, size}));
}

GC_API TLGetInterfaceInfo(void *system, const char *id, int32_t command, int32_t *type, void *buffer, size_t *size)
{
    return LOCKED(system_interface_info(system, id, command, REPLY));
}

GC_API TLOpenInterface(void *system, const char *id, void **interface)
{
    return LOCKED(system_open_interface(system, id, interface));
}

GC_API TLUpdateInterfaceList(void *system, bool8_t *has_changed, uint64_t timeout_ms)
{
    (void)timeout_ms;
    return LOCKED(system_update(system, has_changed));
}

GC_API IFClose(void *interface) { return LOCKED(interface_close(interface)); }

GC_API IFGetInfo(void *interface, int32_t command, int32_t *type, void *buffer, size_t *size)
{
    return LOCKED(interface_info_of(interface, command, REPLY));
}

GC_API IFGetNumDevices(void *interface, uint32_t *count) { return LOCKED(interface_device_count(interface, count)); }

GC_API IFGetDeviceID(void *interface, uint32_t index, char *id, size_t *size)
{
    return LOCKED(interface_device_id(interface, index, (struct reply){NULL, id, size}));
}

GC_API IFUpdateDeviceList(void *interface, bool8_t *has_changed, uint64_t timeout_ms)
{
    (void)timeout_ms;
    return LOCKED(interface_update(interface, has_changed));
}

GC_API IFGetDeviceInfo(void *interface, const char *id, int32_t command, int32_t *type, void *buffer, size_t *size)
{
    return LOCKED(interface_device_info(interface, id, command, REPLY));
}

GC_API IFOpenDevice(void *interface, const char *id, int32_t access, void **device)
{
    return LOCKED(interface_open_device(interface, id, access, device));
}

GC_API IFGetParentTL(void *interface, void **system) { return LOCKED(interface_parent(interface, system)); }

GC_API DevGetPort(void *device, void **port) { return LOCKED(device_port(device, port)); }

GC_API DevGetNumDataStreams(void *device, uint32_t *count) { return LOCKED(device_stream_count(device, count)); }

GC_API DevGetDataStreamID(void *device, uint32_t index, char *id, size_t *size)
{
    return LOCKED(device_stream_id(device, index, (struct reply){NULL, id, size}));
}

GC_API DevOpenDataStream(void *device, const char *id, void **stream)
{
    return LOCKED(device_open_stream(device, id, stream));
}

GC_API DevGetInfo(void *device, int32_t command, int32_t *type, void *buffer, size_t *size)
{
    return LOCKED(device_info(device, command, REPLY));
}

GC_API DevClose(void *device) { return LOCKED(device_close(device)); }

GC_API DevGetParentIF(void *device, void **interface) { return LOCKED(device_parent(device, interface)); }

GC_API DSAnnounceBuffer(void *stream, void *memory, size_t size, void *user_pointer, void **buffer)
{
    return LOCKED(stream_announce(stream, memory, size, user_pointer, buffer));
}

GC_API DSAllocAndAnnounceBuffer(void *stream, size_t size, void *user_pointer, void **buffer)
{
    return LOCKED(stream_allocate(stream, size, user_pointer, buffer));
}

GC_API DSFlushQueue(void *stream, int32_t operation) { return LOCKED(stream_flush(stream, operation)); }

GC_API DSStartAcquisition(void *stream, int32_t flags, uint64_t to_acquire)
{
    (void)flags;
    return LOCKED(stream_start(stream, to_acquire));
}

GC_API DSStopAcquisition(void *stream, int32_t flags)
{
    (void)flags;
    return LOCKED(stream_stop(stream));
}

GC_API DSGetInfo(void *stream, int32_t command, int32_t *type, void *buffer, size_t *size)
{
    return LOCKED(stream_info(stream, command, REPLY));
}

GC_API DSGetBufferID(void *stream, uint32_t index, void **buffer)
{
    return LOCKED(stream_buffer_id(stream, index, buffer));
}

GC_API DSClose(void *stream) { return LOCKED(stream_close(stream)); }

GC_API DSRevokeBuffer(void *stream, void *buffer, void **memory, void **user_pointer)
{
    return LOCKED(stream_revoke(stream, buffer, memory, user_pointer));
}

GC_API DSQueueBuffer(void *stream, void *buffer) { return LOCKED(stream_queue(stream, buffer)); }

GC_API DSGetBufferInfo(void *stream, void *handle, int32_t command, int32_t *type, void *buffer, size_t *size)
{
    return LOCKED(stream_buffer_info(stream, handle, command, REPLY));
}

GC_API DSGetBufferInfoStacked(void *stream, void *buffer, struct buffer_info_stacked *infos, size_t count)
{
    return LOCKED(stream_buffer_infos(stream, buffer, infos, count));
}

GC_API DSGetBufferChunkData(void *stream, void *buffer, struct single_chunk_data *chunks, size_t *count)
{
    return LOCKED(stream_chunks(stream, buffer, chunks, count));
}

GC_API DSGetParentDev(void *stream, void **device) { return LOCKED(stream_parent(stream, device)); }

/* Neither multi-part nor composite buffers, nor flows. A consumer calls what it did not find: all must be there. */
GC_API DSGetNumBufferParts(void) { return not_implemented(); }
GC_API DSGetBufferPartInfo(void) { return not_implemented(); }
GC_API DSGetBufferPartInfoStacked(void) { return not_implemented(); }
GC_API DSAnnounceCompositeBuffer(void) { return not_implemented(); }
GC_API DSGetNumFlows(void) { return not_implemented(); }
GC_API DSGetFlowInfo(void) { return not_implemented(); }
GC_API DSGetNumBufferSegments(void) { return not_implemented(); }
GC_API DSGetBufferSegmentInfo(void) { return not_implemented(); }
