/* SPDX-License-Identifier: Apache-2.0
 * mock_engine: the smallest OpenAI-compatible engine that is still realistic on the wire.
 *
 * One thread, one epoll, HTTP/1.1 keep-alive. It exists so that a benchmark measures the gateway in front of it and
 * nothing else: all answers are built once at start, a burst is one write, and a paced stream is one write per chunk.
 *
 *   mock_engine PORT [--chunks 64] [--gap-us 0] [--think-us 0] [--model bench]
 *                    [--close-before K] [--close-mid K] [--fail K] [--addresses 1]
 *
 *   --gap-us      0: the whole stream at once (burst); N: one chunk every N microseconds (paced)
 *   --think-us    delay before the first byte
 *   --close-before, --close-mid, --fail
 *                 each K-th chat request is closed unanswered / cut in the middle of its stream / answered 503
 *   --addresses N listen on 127.0.0.1 to 127.0.0.N, so that one process passes for N engines
 *
 *   POST /v1/chat/completions     "stream":true in the body -> SSE, with a usage chunk when include_usage is asked
 *   GET  /v1/models  /health      what their names say
 *   GET  /stats                   {"requests":..,"completed":..,"aborted":..,"open":..}; aborted = the client left early
 *   GET  /control?gap_us=N&chunks=N&think_us=N&close_before=K&close_mid=K&fail=K    change the settings while running
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
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
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define MAX_REQUEST (64u << 20)
#define MAX_CHUNKS 4096

typedef struct { char *data; size_t len; } Bytes;

typedef struct Conn {
    int fd;
    char *in; size_t in_len, in_cap;          /* bytes read and not yet consumed */
    const char *out; size_t out_len, out_off; /* what is being written: a static answer, or a slice of one */
    char *owned;                              /* the answer, when it was made for this request */
    int streaming, with_usage, next_chunk, cut_at;
    int close_after, writable_armed, busy;
    uint64_t due;                             /* monotonic ns of the next timed action */
    int queued;                               /* 0 none, 1 thinking, 2 pacing */
    struct Conn *next, *prev;
} Conn;

/* Timers are two FIFO lists: all entries of a list wait equally long, so the order of entry is the order of expiry. */
typedef struct { Conn *head, *tail; } Queue;

static struct { int chunks, close_before, close_mid, fail; uint64_t gap_ns, think_ns; const char *model; } cfg =
    { .chunks = 64, .model = "bench" };
static struct { uint64_t requests, completed, aborted, open; } stats;
static Queue thinking, pacing;
static int epfd, lfds[250], n_lfds = 1;
static Bytes plain, burst[2], unavailable;   /* burst[1] carries the usage chunk */
static Bytes stream_head, piece[MAX_CHUNKS + 2], usage_piece, done_piece;

static uint64_t now_ns(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec; }
static void die(const char *why) { perror(why); exit(1); }

/* --- answers, built once ------------------------------------------------------------------------------------------ */

static Bytes copy_bytes(const char *text, size_t len) { Bytes b = { malloc(len + 1), len }; memcpy(b.data, text, len); b.data[len] = 0; return b; }

static Bytes framed(const char *event) {     /* one SSE event as one HTTP chunk */
    char buf[2048]; size_t n = strlen(event);
    int len = snprintf(buf, sizeof buf, "%zx\r\n%s\r\n", n, event);
    return copy_bytes(buf, (size_t)len);
}

static Bytes answer(const char *status, const char *type, const char *body) {
    char buf[4096];
    int len = snprintf(buf, sizeof buf, "HTTP/1.1 %s\r\nserver: mock\r\ncontent-type: %s\r\ncontent-length: %zu\r\n\r\n%s", status, type, strlen(body), body);
    return copy_bytes(buf, (size_t)len);
}

static void build_answers(void) {
    static const char *words[] = { " Le", " beffroi", " d'une", " ville", " libre", " sonne", " l'alarme", " et", " garde", " les", " chartes", ".",
                                   " Its", " bell", " keeps", " the", " watch", " over", " every", " market", " square", "," };
    const char *id = "chatcmpl-5f1c9ad27b8e4c03a6d4e21f", *fp = "fp_9a41c7e03b";
    char event[2048];
    free(plain.data); free(burst[0].data); free(burst[1].data); free(unavailable.data); free(stream_head.data); free(usage_piece.data); free(done_piece.data);
    for (int i = 0; i < MAX_CHUNKS + 2; i++) { free(piece[i].data); piece[i] = (Bytes){0}; }

    snprintf(event, sizeof event,
        "{\"id\":\"%s\",\"object\":\"chat.completion\",\"created\":1795219200,\"model\":\"%s\",\"choices\":[{\"index\":0,\"message\":"
        "{\"role\":\"assistant\",\"content\":\"A belfry is the tower of a free town: it kept the watch, rang the alarm, and its chest held the charters"
        " and the treasury. Ours does the same for the language models of an organisation, and says so in every answer it gives.\",\"refusal\":null,"
        "\"tool_calls\":[]},\"logprobs\":null,\"finish_reason\":\"stop\",\"stop_reason\":null}],\"service_tier\":null,\"system_fingerprint\":\"%s\","
        "\"usage\":{\"prompt_tokens\":212,\"total_tokens\":%d,\"completion_tokens\":%d,\"prompt_tokens_details\":{\"cached_tokens\":128}}}",
        id, cfg.model, fp, 212 + cfg.chunks, cfg.chunks);
    plain = answer("200 OK", "application/json", event);
    unavailable = answer("503 Service Unavailable", "application/json", "{\"error\":{\"message\":\"the engine is overloaded\",\"type\":\"server_error\",\"param\":null,\"code\":503}}");
    const char *head = "HTTP/1.1 200 OK\r\nserver: mock\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\ntransfer-encoding: chunked\r\n\r\n";
    stream_head = copy_bytes(head, strlen(head));

    for (int i = 0; i < cfg.chunks; i++) {
        char delta[128];
        if (i == 0) snprintf(delta, sizeof delta, "{\"role\":\"assistant\",\"content\":\"\"}");
        else snprintf(delta, sizeof delta, "{\"content\":\"%s\"}", words[(unsigned)i % (sizeof words / sizeof *words)]);
        snprintf(event, sizeof event,
            "data: {\"id\":\"%s\",\"object\":\"chat.completion.chunk\",\"created\":1795219200,\"model\":\"%s\",\"system_fingerprint\":\"%s\","
            "\"choices\":[{\"index\":0,\"delta\":%s,\"logprobs\":null,\"finish_reason\":%s}]}\n\n",
            id, cfg.model, fp, delta, i == cfg.chunks - 1 ? "\"stop\"" : "null");
        piece[i] = framed(event);
    }
    snprintf(event, sizeof event,
        "data: {\"id\":\"%s\",\"object\":\"chat.completion.chunk\",\"created\":1795219200,\"model\":\"%s\",\"choices\":[],"
        "\"usage\":{\"prompt_tokens\":212,\"total_tokens\":%d,\"completion_tokens\":%d,\"prompt_tokens_details\":{\"cached_tokens\":128}}}\n\n",
        id, cfg.model, 212 + cfg.chunks, cfg.chunks);
    usage_piece = framed(event);
    done_piece = copy_bytes("e\r\ndata: [DONE]\n\n\r\n0\r\n\r\n", 24);

    for (int u = 0; u < 2; u++) {
        size_t len = stream_head.len + done_piece.len + (u ? usage_piece.len : 0), at = 0;
        for (int i = 0; i < cfg.chunks; i++) len += piece[i].len;
        burst[u] = (Bytes){ malloc(len), len };
        #define PUT(b) (memcpy(burst[u].data + at, (b).data, (b).len), at += (b).len)
        PUT(stream_head);
        for (int i = 0; i < cfg.chunks; i++) PUT(piece[i]);
        if (u) PUT(usage_piece);
        PUT(done_piece);
    }
}

/* --- timers ------------------------------------------------------------------------------------------------------- */

static Queue *queue_of(Conn *c) { return c->queued == 1 ? &thinking : &pacing; }

static void wait_in(Conn *c, int which, uint64_t due) {
    c->queued = which; c->due = due;
    Queue *q = queue_of(c);
    c->next = NULL; c->prev = q->tail;
    if (q->tail) q->tail->next = c; else q->head = c;
    q->tail = c;
}

static void unqueue(Conn *c) {
    if (!c->queued) return;
    Queue *q = queue_of(c);
    if (c->prev) c->prev->next = c->next; else q->head = c->next;
    if (c->next) c->next->prev = c->prev; else q->tail = c->prev;
    c->queued = 0; c->next = c->prev = NULL;
}

/* --- connections -------------------------------------------------------------------------------------------------- */

static void arm(Conn *c, int writable) {
    if (c->writable_armed == writable) return;
    struct epoll_event e = { .events = EPOLLIN | (writable ? EPOLLOUT : 0u), .data.ptr = c };
    epoll_ctl(epfd, EPOLL_CTL_MOD, c->fd, &e);
    c->writable_armed = writable;
}

static void drop(Conn *c) {
    unqueue(c);
    if (c->busy) { stats.aborted++; stats.open--; }
    close(c->fd); free(c->in); free(c->owned); free(c);
}

static int consume(Conn *c);

/* Send what is pending. 1: all gone; 0: the socket is full, epoll will call again; -1: the connection is gone. */
static int flush(Conn *c) {
    while (c->out_off < c->out_len) {
        ssize_t n = send(c->fd, c->out + c->out_off, c->out_len - c->out_off, MSG_NOSIGNAL);
        if (n < 0) {
            if (errno == EAGAIN) { arm(c, 1); return 0; }
            if (errno == EINTR) continue;
            drop(c); return -1;
        }
        c->out_off += (size_t)n;
    }
    arm(c, 0);
    return 1;
}

static int finished(Conn *c) {
    free(c->owned); c->owned = NULL; c->out_len = c->out_off = 0;
    if (c->busy) { c->busy = 0; stats.open--; stats.completed++; }
    if (c->close_after) { drop(c); return -1; }
    return 1;
}

static int say(Conn *c, Bytes b) { c->out = b.data; c->out_len = b.len; c->out_off = 0; int r = flush(c); return r == 1 ? finished(c) : r; }

/* Write the next piece of a paced stream, and the closing pieces right after the last one. */
static int step(Conn *c, uint64_t now) {
    int last = cfg.chunks;
    if (c->cut_at && c->next_chunk >= c->cut_at) { drop(c); return -1; }
    free(c->owned); c->owned = NULL;
    if (c->next_chunk == 0 || c->next_chunk >= last - 1) {     /* first: with the head; last: with usage and [DONE] */
        size_t cap = stream_head.len + usage_piece.len + done_piece.len + 1024, at = 0;
        c->owned = malloc(cap);
        #define ADD(b) (memcpy(c->owned + at, (b).data, (b).len), at += (b).len)
        if (c->next_chunk == 0) ADD(stream_head);
        if (c->next_chunk < last) ADD(piece[c->next_chunk]);
        if (c->next_chunk >= last - 1) { if (c->with_usage) ADD(usage_piece); ADD(done_piece); }
        c->out = c->owned; c->out_len = at;
    } else { c->out = piece[c->next_chunk].data; c->out_len = piece[c->next_chunk].len; }
    c->out_off = 0;
    c->next_chunk++;
    int over = c->next_chunk >= last;
    if (over) c->streaming = 0;
    else { uint64_t due = c->due + cfg.gap_ns; wait_in(c, 2, due > now ? due : now + cfg.gap_ns); }
    int r = flush(c);
    return r == 1 && over ? finished(c) : r;
}

static int start_answer(Conn *c) {
    uint64_t now = now_ns();
    if (!c->streaming) return say(c, plain);
    if (c->cut_at || cfg.gap_ns) { c->due = now; return step(c, now); }
    c->streaming = 0;
    return say(c, burst[c->with_usage]);
}

static int flagged(const char *body, size_t len, const char *name) {   /* "name" : true, whitespace tolerated */
    char key[40]; int n = snprintf(key, sizeof key, "\"%s\"", name);
    const char *end = body + len, *p = body;
    while ((p = memmem(p, (size_t)(end - p), key, (size_t)n))) {
        p += n;
        const char *q = p;
        while (q < end && strchr(" \t\r\n", *q)) q++;
        if (q >= end || *q != ':') continue;
        q++;
        while (q < end && strchr(" \t\r\n", *q)) q++;
        if (end - q >= 4 && !memcmp(q, "true", 4)) return 1;
    }
    return 0;
}

static int answer_own(Conn *c, Bytes b) { c->owned = b.data; return say(c, b); }

static long param(const char *path, const char *name, long otherwise) {
    char key[32]; snprintf(key, sizeof key, "%s=", name);
    const char *p = strstr(path, key);
    return p && (p[-1] == '?' || p[-1] == '&') ? atol(p + strlen(key)) : otherwise;
}

static int handle(Conn *c, const char *method, const char *path, const char *body, size_t len) {
    char buf[1024];
    if (!strcmp(method, "POST") && !strncmp(path, "/v1/chat/completions", 20)) {
        uint64_t k = ++stats.requests;
        if (cfg.close_before && k % (unsigned)cfg.close_before == 0) { drop(c); return -1; }
        if (cfg.fail && k % (unsigned)cfg.fail == 0) return say(c, unavailable);
        c->busy = 1; stats.open++;
        c->streaming = flagged(body, len, "stream");
        c->with_usage = c->streaming && flagged(body, len, "include_usage");
        c->next_chunk = 0;
        c->cut_at = c->streaming && cfg.close_mid && k % (unsigned)cfg.close_mid == 0 ? cfg.chunks / 2 : 0;
        if (cfg.think_ns) { wait_in(c, 1, now_ns() + cfg.think_ns); return 0; }
        return start_answer(c);
    }
    if (!strncmp(path, "/v1/models", 10)) {
        snprintf(buf, sizeof buf, "{\"object\":\"list\",\"data\":[{\"id\":\"%s\",\"object\":\"model\",\"created\":1795219200,\"owned_by\":\"mock\",\"max_model_len\":32768}]}", cfg.model);
        return answer_own(c, answer("200 OK", "application/json", buf));
    }
    if (!strncmp(path, "/health", 7)) return answer_own(c, answer("200 OK", "application/json", "{}"));
    if (!strncmp(path, "/stats", 6)) {
        snprintf(buf, sizeof buf, "{\"requests\":%lu,\"completed\":%lu,\"aborted\":%lu,\"open\":%lu}", stats.requests, stats.completed, stats.aborted, stats.open);
        return answer_own(c, answer("200 OK", "application/json", buf));
    }
    if (!strncmp(path, "/control", 8)) {
        long chunks = param(path, "chunks", cfg.chunks);
        cfg.gap_ns = (uint64_t)param(path, "gap_us", (long)(cfg.gap_ns / 1000)) * 1000u;
        cfg.think_ns = (uint64_t)param(path, "think_us", (long)(cfg.think_ns / 1000)) * 1000u;
        cfg.close_before = (int)param(path, "close_before", cfg.close_before);
        cfg.close_mid = (int)param(path, "close_mid", cfg.close_mid);
        cfg.fail = (int)param(path, "fail", cfg.fail);
        if (chunks != cfg.chunks && stats.open) return answer_own(c, answer("409 Conflict", "application/json", "{\"error\":\"streams are open\"}"));
        if (chunks != cfg.chunks && chunks > 0 && chunks <= MAX_CHUNKS) { cfg.chunks = (int)chunks; build_answers(); }
        return answer_own(c, answer("200 OK", "application/json", "{}"));
    }
    return answer_own(c, answer("404 Not Found", "application/json", "{\"error\":{\"message\":\"no such path\",\"type\":\"invalid_request_error\",\"param\":null,\"code\":404}}"));
}

/* Length of a chunked body from p, decoded in place into *len bytes; -1 while incomplete, -2 when malformed. */
static ssize_t dechunk(char *p, size_t avail, size_t *len) {
    char *at = p, *end = p + avail, *out = p;
    char *dry = p;                                   /* first pass: is it complete? */
    for (int pass = 0; pass < 2; pass++) {
        at = pass ? p : dry;
        for (;;) {
            char *nl = memmem(at, (size_t)(end - at), "\r\n", 2);
            if (!nl) return -1;
            char *stop; unsigned long n = strtoul(at, &stop, 16);
            if (stop == at || n > MAX_REQUEST) return -2;
            at = nl + 2;
            if (n == 0) {                            /* trailers are not expected: the end is an empty line */
                if (end - at < 2) return -1;
                at += 2; break;
            }
            if ((size_t)(end - at) < n + 2) return -1;
            if (pass) { memmove(out, at, n); out += n; }
            at += n + 2;
        }
    }
    *len = (size_t)(out - p);
    return at - p;
}

/* Answer each complete request in the buffer. 0: wait for more; -1: the connection is gone. */
static int consume(Conn *c) {
    while (c->in_len && !c->busy && !c->out_len) {
        char *head_end = memmem(c->in, c->in_len, "\r\n\r\n", 4);
        if (!head_end) return 0;
        char *body = head_end + 4; size_t head = (size_t)(body - c->in), length = 0, used; int chunked = 0;
        for (char *line = memmem(c->in, head, "\r\n", 2); line && line < head_end; line = memmem(line + 2, head - (size_t)(line + 2 - c->in), "\r\n", 2)) {
            if (!strncasecmp(line + 2, "content-length:", 15)) length = strtoul(line + 17, NULL, 10);
            else if (!strncasecmp(line + 2, "transfer-encoding:", 18)) chunked = 1;
            else if (!strncasecmp(line + 2, "connection: close", 17)) c->close_after = 1;
            else if (!strncasecmp(line + 2, "expect: 100-continue", 20) && c->in_len == head) send(c->fd, "HTTP/1.1 100 Continue\r\n\r\n", 25, MSG_NOSIGNAL);
        }
        if (length > MAX_REQUEST) { drop(c); return -1; }
        if (chunked) {
            ssize_t n = dechunk(body, c->in_len - head, &length);
            if (n == -1) return 0;
            if (n < 0) { drop(c); return -1; }
            used = head + (size_t)n;
        } else { if (c->in_len - head < length) return 0; used = head + length; }
        char method[8], path[512]; method[0] = path[0] = 0;
        *head_end = 0;                               /* so that sscanf stops there */
        sscanf(c->in, "%7s %511s", method, path);
        int r = handle(c, method, path, body, length);
        if (r < 0) return -1;
        memmove(c->in, c->in + used, c->in_len - used);
        c->in_len -= used;
    }
    return 0;
}

static void readable(Conn *c) {
    for (;;) {
        if (c->in_cap - c->in_len < 2048) {
            c->in_cap = c->in_cap ? c->in_cap * 2 : 4096;
            if (c->in_cap > MAX_REQUEST * 2 || !(c->in = realloc(c->in, c->in_cap))) { drop(c); return; }
        }
        size_t room = c->in_cap - c->in_len;
        ssize_t n = recv(c->fd, c->in + c->in_len, room, 0);
        if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) { drop(c); return; }
        if (n < 0) break;
        c->in_len += (size_t)n;
        if ((size_t)n < room) break;
    }
    consume(c);
}

static void writable(Conn *c) {
    if (flush(c) == 1 && !c->queued && !c->streaming && finished(c) == 1) consume(c);
}

static void accept_all(int lfd) {
    for (;;) {
        int fd = accept4(lfd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC), on = 1;
        if (fd < 0) return;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        Conn *c = calloc(1, sizeof *c);
        c->fd = fd;
        struct epoll_event e = { .events = EPOLLIN, .data.ptr = c };
        epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &e);
    }
}

static void expire(void) {
    uint64_t now = now_ns();
    for (Conn *c; (c = thinking.head) && c->due <= now;) { unqueue(c); if (start_answer(c) == 1) consume(c); }
    for (Conn *c; (c = pacing.head) && c->due <= now;) {
        unqueue(c);
        if (c->out_off < c->out_len) { wait_in(c, 2, now + cfg.gap_ns); continue; }   /* the reader is slow: skip a beat */
        if (step(c, now) == 1 && !c->queued) consume(c);
    }
}

int main(int argc, char **argv) {
    if (argc < 2) { fprintf(stderr, "usage: mock_engine PORT [--chunks N] [--gap-us N] [--think-us N] [--model NAME] [--close-before K] [--close-mid K] [--fail K] [--addresses N]\n"); return 2; }
    for (int i = 2; i + 1 < argc; i += 2) {
        long v = atol(argv[i + 1]);
        if (!strcmp(argv[i], "--chunks")) cfg.chunks = v < 1 ? 1 : v > MAX_CHUNKS ? MAX_CHUNKS : (int)v;
        else if (!strcmp(argv[i], "--gap-us")) cfg.gap_ns = (uint64_t)v * 1000u;
        else if (!strcmp(argv[i], "--think-us")) cfg.think_ns = (uint64_t)v * 1000u;
        else if (!strcmp(argv[i], "--model")) cfg.model = argv[i + 1];
        else if (!strcmp(argv[i], "--close-before")) cfg.close_before = (int)v;
        else if (!strcmp(argv[i], "--close-mid")) cfg.close_mid = (int)v;
        else if (!strcmp(argv[i], "--fail")) cfg.fail = (int)v;
        else if (!strcmp(argv[i], "--addresses")) n_lfds = v < 1 ? 1 : v > 250 ? 250 : (int)v;
        else { fprintf(stderr, "unknown option %s\n", argv[i]); return 2; }
    }
    signal(SIGPIPE, SIG_IGN);
    prctl(PR_SET_TIMERSLACK, 1000);
    struct rlimit lim; getrlimit(RLIMIT_NOFILE, &lim); lim.rlim_cur = lim.rlim_max; setrlimit(RLIMIT_NOFILE, &lim);
    build_answers();
    epfd = epoll_create1(EPOLL_CLOEXEC);
    struct epoll_event e = { .events = EPOLLIN, .data.ptr = NULL }, ev[256];
    for (int i = 0; i < n_lfds; i++) {
        int lfd = lfds[i] = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), on = 1;
        setsockopt(lfd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
        struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(argv[1])), .sin_addr.s_addr = htonl(INADDR_LOOPBACK + (uint32_t)i) };
        if (bind(lfd, (struct sockaddr *)&a, sizeof a) || listen(lfd, 4096)) die("listen");
        epoll_ctl(epfd, EPOLL_CTL_ADD, lfd, &e);
    }
    for (;;) {
        uint64_t due = UINT64_MAX, now;
        if (thinking.head) due = thinking.head->due;
        if (pacing.head && pacing.head->due < due) due = pacing.head->due;
        struct timespec ts, *wait = NULL;
        if (due != UINT64_MAX) { now = now_ns(); uint64_t d = due > now ? due - now : 0; ts = (struct timespec){ (time_t)(d / 1000000000u), (long)(d % 1000000000u) }; wait = &ts; }
        int n = (int)syscall(SYS_epoll_pwait2, epfd, ev, 256, wait, NULL, 8);
        if (n < 0 && errno != EINTR) die("epoll_pwait2");
        for (int i = 0; i < n; i++) {
            if (!ev[i].data.ptr) { for (int l = 0; l < n_lfds; l++) accept_all(lfds[l]); continue; }
            Conn *c = ev[i].data.ptr;
            if (ev[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) readable(c);   /* may free c: one event, one action */
            else if (ev[i].events & EPOLLOUT) writable(c);
        }
        expire();
    }
}
