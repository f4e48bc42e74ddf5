/* SPDX-License-Identifier: Apache-2.0
 * loadgen: a small, cheap and strict HTTP/1.1 load generator for chat completions.
 *
 * One thread, one epoll, C keep-alive connections. Closed loop by default (a connection sends again as soon as its answer
 * is complete); open loop with --rate, where latency counts from the moment the request *should* have left, so that a slow
 * gateway cannot hide its queue. Answers are really parsed: status, content-length or chunked framing, SSE lines.
 *
 *   loadgen --port P --body FILE [--host 127.0.0.1] [--path /v1/chat/completions] [--header 'Name: value']...
 *           [-c 64] [--duration 5 | --count N] [--rate R] [--poisson] [--stream] [--expect LINES] [--timeout 30]
 *           [--idle N]
 *
 *   --stream   the answer must be SSE with no line that is not SSE, contain "data: [DONE]", and (--expect) carry at least
 *              that many data: lines
 *   --idle N   open N streams, print {"open":N} when each has had its first data: line, then hold until stdin closes
 *
 * At the end of the time no new request starts and those in flight are awaited, so that CPU time divides exactly.
 * Prints one JSON line; latencies in microseconds.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { HEAD, LENGTH, CHUNK_SIZE, CHUNK_DATA, CHUNK_END, TRAILER, UNTIL_CLOSE };

typedef struct {
    int fd, active, state, status, keep, sse, done_seen, junk, line_len, lines;
    size_t sent, left, head_len;
    uint64_t started, first;
    char line[16];            /* the beginning of the current SSE line */
    char head[8192];          /* the response head, or a chunk-size line */
} Conn;

typedef struct { uint32_t *at; size_t n, cap; } Samples;

static struct { const char *host, *path; int port, conns, stream, expect, poisson, idle; double duration, rate, timeout; uint64_t count; } opt =
    { .host = "127.0.0.1", .path = "/v1/chat/completions", .conns = 64, .duration = 5, .timeout = 30 };
static Conn *conns; static int *free_list, n_free;
static char *request; static size_t request_len;
static Samples latency, ttft;
static uint64_t ok, errors, bad_status, bad_stream, broken, started, in_flight, data_lines, body_bytes, opened_streams;
static int epfd, last_bad_status;
static struct sockaddr_in addr;

static uint64_t now_ns(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec; }
static void die(const char *why) { perror(why); exit(1); }

static void add(Samples *s, uint64_t ns) {
    if (s->n == s->cap) { s->cap = s->cap ? s->cap * 2 : 65536; s->at = realloc(s->at, s->cap * sizeof *s->at); }
    uint64_t us = ns / 1000; s->at[s->n++] = us > UINT32_MAX ? UINT32_MAX : (uint32_t)us;
}
static int by_value(const void *a, const void *b) { uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b; return (x > y) - (x < y); }
static uint32_t pct(Samples *s, double p) { if (!s->n) return 0; size_t i = (size_t)(p * (double)(s->n - 1) + 0.5); return s->at[i]; }

/* --- connections -------------------------------------------------------------------------------------------------- */

static void watch(Conn *c, uint32_t events, int op) { struct epoll_event e = { .events = events, .data.ptr = c }; epoll_ctl(epfd, op, c->fd, &e); }

static int open_conn(Conn *c) {
    int on = 1;
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0) return -1;
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (connect(c->fd, (struct sockaddr *)&addr, sizeof addr) && errno != EINPROGRESS) { close(c->fd); c->fd = -1; return -1; }
    watch(c, EPOLLIN | EPOLLOUT, EPOLL_CTL_ADD);
    return 0;
}

static void close_conn(Conn *c) { if (c->fd >= 0) close(c->fd); c->fd = -1; }

static void release(Conn *c) { c->active = 0; in_flight--; free_list[n_free++] = (int)(c - conns); }

static void fail(Conn *c, uint64_t *kind) { errors++; (*kind)++; close_conn(c); release(c); }

static void push(Conn *c) {                        /* send what remains of the request */
    while (c->sent < request_len) {
        ssize_t n = send(c->fd, request + c->sent, request_len - c->sent, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno == EAGAIN || errno == ENOTCONN) { watch(c, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD); return; }
            if (errno == EINTR) continue;
            fail(c, &broken); return;
        }
        c->sent += (size_t)n;
    }
}

static void begin(Conn *c, uint64_t when) {
    c->active = 1; c->state = HEAD; c->head_len = c->sent = 0; c->lines = c->line_len = c->done_seen = c->sse = c->junk = 0; c->first = 0; c->keep = 1;
    c->started = when; started++; in_flight++;
    if (c->fd < 0) { if (open_conn(c)) fail(c, &broken); return; }   /* written when the connection is up */
    push(c);
}

/* --- answers ------------------------------------------------------------------------------------------------------ */

static void complete(Conn *c) {
    uint64_t now = now_ns();
    if (c->status != 200) { errors++; bad_status++; last_bad_status = c->status; }
    else if (opt.stream && (!c->sse || !c->done_seen || c->junk || c->lines < opt.expect)) { errors++; bad_stream++; }
    else { ok++; data_lines += (uint64_t)c->lines; add(&latency, now - c->started); if (opt.stream && c->first) add(&ttft, c->first - c->started); }
    if (!c->keep) close_conn(c);
    release(c);
}

static int known_field(const char *line, int n) {    /* anything else between events is framing that leaked, or worse */
    return (n >= 6 && !memcmp(line, "event:", 6)) || (n >= 3 && !memcmp(line, "id:", 3)) || (n >= 6 && !memcmp(line, "retry:", 6));
}

static void body(Conn *c, const char *p, size_t n) {
    body_bytes += n;
    if (!opt.stream) return;
    while (n) {
        const char *nl = memchr(p, '\n', n);
        size_t take = nl ? (size_t)(nl - p) : n;
        if (c->line_len < (int)sizeof c->line) {
            size_t room = sizeof c->line - (size_t)c->line_len, part = take < room ? take : room;
            memcpy(c->line + c->line_len, p, part); c->line_len += (int)part;
        }
        if (!nl) return;
        if (c->line_len >= 5 && !memcmp(c->line, "data:", 5)) {
            if (!c->first) { c->first = now_ns(); opened_streams++; }
            c->lines++;
            const char *v = c->line + 5; int left = c->line_len - 5;
            while (left && *v == ' ') { v++; left--; }
            if (left >= 6 && !memcmp(v, "[DONE]", 6)) c->done_seen = 1;
        } else if (c->line_len && c->line[0] != ':' && c->line[0] != '\r' && !known_field(c->line, c->line_len)) c->junk = 1;
        c->line_len = 0; p += take + 1; n -= take + 1;
    }
}

static int parse_head(Conn *c) {                    /* c->head holds a whole head, NUL-terminated */
    if (sscanf(c->head, "HTTP/1.%*d %d", &c->status) != 1) return -1;
    int chunked = 0; long length = -1;
    for (char *line = strstr(c->head, "\r\n"); line; line = strstr(line + 2, "\r\n")) {
        if (!strncasecmp(line + 2, "content-length:", 15)) length = atol(line + 17);
        else if (!strncasecmp(line + 2, "transfer-encoding:", 18)) chunked = 1;
        else if (!strncasecmp(line + 2, "connection: close", 17)) c->keep = 0;
        else if (!strncasecmp(line + 2, "content-type: text/event-stream", 31)) c->sse = 1;
    }
    if (chunked) c->state = CHUNK_SIZE;
    else if (length >= 0) { c->state = LENGTH; c->left = (size_t)length; }
    else { c->state = UNTIL_CLOSE; c->keep = 0; }
    c->head_len = 0;
    return 0;
}

/* Feed bytes through the framing. 1: the answer is complete; 0: more to come; -1: malformed. */
static int feed(Conn *c, const char *p, size_t n) {
    const char *end = p + n;
    for (;;) {
        if (c->state == LENGTH && !c->left) return 1;
        if (p == end) return 0;
        size_t avail = (size_t)(end - p);
        switch (c->state) {
        case HEAD: {
            size_t old = c->head_len, room = sizeof c->head - 1 - old, part = avail < room ? avail : room;
            memcpy(c->head + old, p, part); c->head_len += part;
            size_t from = old > 3 ? old - 3 : 0;
            char *stop = memmem(c->head + from, c->head_len - from, "\r\n\r\n", 4);
            if (!stop) { if (c->head_len == sizeof c->head - 1) return -1; p += part; break; }
            p += (size_t)(stop + 4 - c->head) - old;
            stop[2] = 0;
            if (parse_head(c)) return -1;
            break; }
        case LENGTH: case CHUNK_DATA: {
            size_t part = avail < c->left ? avail : c->left;
            body(c, p, part); p += part; c->left -= part;
            if (!c->left && c->state == CHUNK_DATA) { c->state = CHUNK_END; c->left = 2; }
            break; }
        case CHUNK_END: { size_t part = avail < c->left ? avail : c->left; p += part; c->left -= part; if (!c->left) c->state = CHUNK_SIZE; break; }
        case CHUNK_SIZE: case TRAILER: {
            const char *nl = memchr(p, '\n', avail);
            size_t part = nl ? (size_t)(nl - p) : avail;
            if (c->head_len + part >= 256) return -1;
            memcpy(c->head + c->head_len, p, part); c->head_len += part;
            if (!nl) { p = end; break; }
            p = nl + 1; c->head[c->head_len] = 0;
            int empty = c->head_len <= 1;
            c->head_len = 0;
            if (c->state == TRAILER) { if (empty) return 1; break; }
            char *stop; c->left = strtoul(c->head, &stop, 16);
            if (stop == c->head) return -1;
            c->state = c->left ? CHUNK_DATA : TRAILER;
            break; }
        default: body(c, p, avail); p = end;        /* UNTIL_CLOSE */
        }
    }
}

static void on_event(Conn *c, uint32_t events) {
    static char buf[256 << 10];
    if (events & EPOLLOUT) {
        watch(c, EPOLLIN, EPOLL_CTL_MOD);
        if (c->active) { push(c); if (c->fd < 0 || !c->active) return; }
    }
    if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR))) return;
    for (;;) {
        ssize_t n = recv(c->fd, buf, sizeof buf, 0);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) return;
        if (n <= 0) {
            if (!c->active) { close_conn(c); return; }
            if (n == 0 && c->state == UNTIL_CLOSE) { complete(c); return; }
            if (n == 0 && c->state == HEAD && !c->head_len && c->sent < request_len) { fail(c, &broken); return; }
            fail(c, &broken); return;
        }
        if (!c->active) { close_conn(c); return; }
        int r = feed(c, buf, (size_t)n);
        if (r < 0) { fail(c, &broken); return; }
        if (r) { complete(c); return; }
        if ((size_t)n < sizeof buf) return;
    }
}

/* --- main --------------------------------------------------------------------------------------------------------- */

static char *slurp(const char *path, size_t *len) {
    int fd = open(path, O_RDONLY); struct stat st;
    if (fd < 0 || fstat(fd, &st)) die(path);
    char *p = malloc((size_t)st.st_size + 1); *len = 0;
    while (*len < (size_t)st.st_size) { ssize_t n = read(fd, p + *len, (size_t)st.st_size - *len); if (n <= 0) break; *len += (size_t)n; }
    close(fd); return p;
}

static double uniform(void) { static uint64_t s = 88172645463325252u; s ^= s << 13; s ^= s >> 7; s ^= s << 17; return ((double)(s >> 11) + 0.5) / 9007199254740992.0; }

static void wait_events(int64_t ns) {
    struct epoll_event ev[256];
    struct timespec ts = { ns / 1000000000, ns % 1000000000 };
    int n = (int)syscall(SYS_epoll_pwait2, epfd, ev, 256, ns < 0 ? NULL : &ts, NULL, 8);
    if (n < 0 && errno != EINTR) die("epoll_pwait2");
    for (int i = 0; i < n; i++) { Conn *c = ev[i].data.ptr; if (c && c->fd >= 0) on_event(c, ev[i].events); }
}

static void sweep(uint64_t now) {                   /* give up on answers that never come */
    for (int i = 0; i < opt.conns; i++) if (conns[i].active && now > conns[i].started && (double)(now - conns[i].started) > opt.timeout * 1e9) fail(&conns[i], &broken);
}

static void hold_idle(void) {
    uint64_t t0 = now_ns();
    while (opened_streams < (uint64_t)opt.idle && (double)(now_ns() - t0) < opt.timeout * 1e9 && errors < 100) {
        while (n_free && started - errors < (uint64_t)opt.idle && started - opened_streams < 64 + errors) begin(&conns[free_list[--n_free]], now_ns());
        wait_events(50000000);
    }
    printf("{\"open\":%lu,\"errors\":%lu,\"seconds\":%.2f}\n", opened_streams, errors, (double)(now_ns() - t0) / 1e9);
    fflush(stdout);
    char c; while (read(0, &c, 1) > 0) {}
}

int main(int argc, char **argv) {
    char *headers = calloc(1, 1), *file = NULL;
    opt.count = UINT64_MAX;
    for (int i = 1; i < argc; i++) {
        const char *a = argv[i], *v = i + 1 < argc ? argv[i + 1] : "";
        if (!strcmp(a, "--stream")) { opt.stream = 1; continue; }
        if (!strcmp(a, "--poisson")) { opt.poisson = 1; continue; }
        i++;
        if (!strcmp(a, "--host")) opt.host = v;
        else if (!strcmp(a, "--port")) opt.port = atoi(v);
        else if (!strcmp(a, "--path")) opt.path = v;
        else if (!strcmp(a, "--body")) file = argv[i];
        else if (!strcmp(a, "-c")) opt.conns = atoi(v);
        else if (!strcmp(a, "--duration")) opt.duration = atof(v);
        else if (!strcmp(a, "--count")) { opt.count = strtoull(v, NULL, 10); opt.duration = 1e9; }
        else if (!strcmp(a, "--rate")) opt.rate = atof(v);
        else if (!strcmp(a, "--expect")) opt.expect = atoi(v);
        else if (!strcmp(a, "--timeout")) opt.timeout = atof(v);
        else if (!strcmp(a, "--idle")) { opt.idle = atoi(v); opt.stream = 1; opt.conns = opt.idle; }
        else if (!strcmp(a, "--header")) { headers = realloc(headers, strlen(headers) + strlen(v) + 3); strcat(headers, v); strcat(headers, "\r\n"); }
        else { fprintf(stderr, "unknown option %s\n", a); return 2; }
    }
    if (!opt.port || !file || opt.conns < 1) { fprintf(stderr, "loadgen needs --port and --body (see the top of loadgen.c)\n"); return 2; }
    size_t len; char *content = slurp(file, &len);
    request = malloc(len + strlen(headers) + 1024);
    int head = sprintf(request, "POST %s HTTP/1.1\r\nhost: %s:%d\r\ncontent-type: application/json\r\naccept: */*\r\nuser-agent: loadgen\r\n%scontent-length: %zu\r\n\r\n",
                       opt.path, opt.host, opt.port, headers, len);
    memcpy(request + head, content, len); request_len = (size_t)head + len;

    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_TIMERSLACK, 1000);
    struct rlimit lim; getrlimit(RLIMIT_NOFILE, &lim); lim.rlim_cur = lim.rlim_max; setrlimit(RLIMIT_NOFILE, &lim);
    addr = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons((uint16_t)opt.port) };
    if (inet_pton(AF_INET, opt.host, &addr.sin_addr) != 1) die("host");
    epfd = epoll_create1(EPOLL_CLOEXEC);
    conns = calloc((size_t)opt.conns, sizeof *conns); free_list = calloc((size_t)opt.conns, sizeof *free_list);
    for (int i = opt.conns; i-- > 0;) { conns[i].fd = -1; free_list[n_free++] = i; }
    if (opt.idle) { hold_idle(); return 0; }

    uint64_t t0 = now_ns(), stop = t0 + (uint64_t)(opt.duration * 1e9), due = t0, next_sweep = t0, hard = stop + (uint64_t)(opt.timeout * 1e9);
    double late_max = 0;
    for (;;) {
        uint64_t now = now_ns();
        int may_start = now < stop && started < opt.count && errors < 1000 + ok;
        if (may_start && opt.rate <= 0) while (n_free && started < opt.count) begin(&conns[free_list[--n_free]], now);
        if (may_start && opt.rate > 0)
            while (n_free && due <= now && started < opt.count) {
                if ((double)(now - due) > late_max) late_max = (double)(now - due);
                begin(&conns[free_list[--n_free]], due);
                due += (uint64_t)((opt.poisson ? -log(uniform()) : 1.0) * 1e9 / opt.rate);
            }
        if (!may_start && !in_flight) break;
        if (now > hard) break;
        if (now > next_sweep) { sweep(now); next_sweep = now + 200000000; }
        int64_t wait = 100000000;
        if (may_start && opt.rate > 0 && n_free) wait = due > now ? (int64_t)(due - now) : 0;
        else if (may_start && (int64_t)(stop - now) < wait) wait = (int64_t)(stop - now);
        wait_events(wait);
    }
    double seconds = (double)(now_ns() - t0) / 1e9;
    qsort(latency.at, latency.n, sizeof *latency.at, by_value); qsort(ttft.at, ttft.n, sizeof *ttft.at, by_value);
    printf("{\"requests\":%lu,\"seconds\":%.3f,\"rps\":%.1f,\"errors\":%lu,\"bad_status\":%lu,\"last_bad_status\":%d,\"bad_stream\":%lu,\"broken\":%lu,\"unfinished\":%lu,"
           "\"p50\":%u,\"p90\":%u,\"p99\":%u,\"max\":%u,\"ttft_p50\":%u,\"ttft_p99\":%u,\"data_lines\":%lu,\"body_bytes\":%lu,\"start_late_max\":%.0f}\n",
           ok, seconds, (double)ok / seconds, errors, bad_status, last_bad_status, bad_stream, broken, in_flight,
           pct(&latency, .5), pct(&latency, .9), pct(&latency, .99), pct(&latency, 1), pct(&ttft, .5), pct(&ttft, .99), data_lines, body_bytes, late_max / 1000);
    return errors && !ok;
}
