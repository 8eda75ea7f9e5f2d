/* hiredis with its default settings: silent on success, a message and exit code 1 otherwise. */

#include <hiredis/hiredis.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static redisContext *context;
static const char *host;
static int port;

static void fail(const char *what, const redisReply *reply) {
    const char *text = reply && reply->str ? reply->str : context->errstr;
    fprintf(stderr, "hiredis: %s: type %d, \"%s\"\n", what, reply ? reply->type : 0, text);
    exit(1);
}

static redisReply *run(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    redisReply *reply = redisvCommand(context, format, arguments);
    va_end(arguments);
    if (reply == NULL) fail(format, reply);
    return reply;
}

static void expect_integer(redisReply *reply, long long wanted, const char *what) {
    if (reply->type != REDIS_REPLY_INTEGER || reply->integer != wanted) fail(what, reply);
    freeReplyObject(reply);
}

static void expect_text(redisReply *reply, const char *wanted, const char *what) {
    if (reply->type == REDIS_REPLY_ERROR || reply->str == NULL || strcmp(reply->str, wanted) != 0) fail(what, reply);
    freeReplyObject(reply);
}

/* An array whose elements, joined by blanks, read as `wanted`. */
static void expect_array(redisReply *reply, const char *wanted, const char *what) {
    char text[1024] = "";
    if (reply->type != REDIS_REPLY_ARRAY) fail(what, reply);
    for (size_t i = 0; i < reply->elements; i++) {
        const redisReply *element = reply->element[i];
        if (i > 0) strcat(text, " ");
        strncat(text, element->str ? element->str : "(nil)", 100);
    }
    if (strcmp(text, wanted) != 0) {
        fprintf(stderr, "hiredis: %s: got \"%s\", expected \"%s\"\n", what, text, wanted);
        exit(1);
    }
    freeReplyObject(reply);
}

static void data_types(void) {
    expect_text(run("SET hi:s %b", "a\r\nb", (size_t)4), "OK", "SET");
    expect_text(run("GET hi:s"), "a\r\nb", "GET");
    expect_text(run("MSET hi:a 1 hi:b 2 hi:c 3"), "OK", "MSET");
    expect_array(run("MGET hi:a hi:none hi:c hi:b"), "1 (nil) 3 2", "MGET");
    expect_integer(run("DEL hi:a hi:b hi:c"), 3, "DEL");
    expect_integer(run("HSET hi:h a 1 b 2"), 2, "HSET");
    expect_array(run("HMGET hi:h a b"), "1 2", "HMGET");
    expect_integer(run("RPUSH hi:l 1 2 3"), 3, "RPUSH");
    expect_array(run("LRANGE hi:l 0 -1"), "1 2 3", "LRANGE");
    expect_integer(run("SADD hi:{t}1 a b"), 2, "SADD");
    expect_integer(run("SADD hi:{t}2 b c"), 2, "SADD");
    expect_array(run("SINTER hi:{t}1 hi:{t}2"), "b", "SINTER");
    expect_integer(run("ZADD hi:z 1.5 a 2 b"), 2, "ZADD");
    expect_array(run("ZRANGE hi:z 0 -1 WITHSCORES"), "a 1.5 b 2", "ZRANGE");
    expect_text(run("XADD hi:x 1-1 f v"), "1-1", "XADD");
    expect_integer(run("XLEN hi:x"), 1, "XLEN");
    expect_text(run("XGROUP CREATE hi:x g 0"), "OK", "XGROUP CREATE");
    expect_integer(run("XACK hi:x g 1-1"), 0, "XACK");
    expect_array(run("EVAL %s 1 hi:s v", "return {KEYS[1], ARGV[1]}"), "hi:s v", "EVAL");
}

static void pipeline(void) {
    char wanted[16];
    redisReply *reply;
    for (int i = 0; i < 500; i++) {
        redisAppendCommand(context, "SET hi:p%d %d", i, i);
        redisAppendCommand(context, "GET hi:p%d", i);
    }
    for (int i = 0; i < 500; i++) {
        if (redisGetReply(context, (void **)&reply) != REDIS_OK) fail("pipeline", NULL);
        expect_text(reply, "OK", "pipelined SET");
        if (redisGetReply(context, (void **)&reply) != REDIS_OK) fail("pipeline", NULL);
        snprintf(wanted, sizeof wanted, "%d", i);
        expect_text(reply, wanted, "pipelined GET");
    }
}

/* A new connection, on which nothing takes longer than 15 s. */
static redisContext *open_context(void) {
    struct timeval timeout = {15, 0};
    redisContext *opened = redisConnectWithTimeout(host, port, timeout);
    if (opened == NULL || opened->err || redisSetTimeout(opened, timeout) != REDIS_OK) {
        fprintf(stderr, "hiredis: cannot connect: %s\n", opened ? opened->errstr : "no memory");
        exit(1);
    }
    return opened;
}

/* The next reply on a connection other than the usual one. */
static redisReply *next_reply(redisContext *other) {
    redisReply *reply = NULL;
    if (redisGetReply(other, (void **)&reply) != REDIS_OK) {
        fprintf(stderr, "hiredis: %s\n", other->errstr);
        exit(1);
    }
    return reply;
}

static void scan(void) {
    char cursor[32] = "0";
    size_t found = 0;
    do {
        redisReply *reply = run("SCAN %s MATCH hi:p* COUNT 1000", cursor);
        if (reply->type != REDIS_REPLY_ARRAY || reply->elements != 2) fail("SCAN", reply);
        snprintf(cursor, sizeof cursor, "%s", reply->element[0]->str);
        found += reply->element[1]->elements;
        freeReplyObject(reply);
    } while (strcmp(cursor, "0") != 0);
    if (found != 500) {
        fprintf(stderr, "hiredis: SCAN: %zu keys, expected 500\n", found);
        exit(1);
    }
}

static void transaction(void) {
    expect_text(run("MULTI"), "OK", "MULTI");
    expect_text(run("SET hi:{tx}a 1"), "QUEUED", "SET in MULTI");
    expect_text(run("GET hi:{tx}a"), "QUEUED", "GET in MULTI");
    expect_array(run("EXEC"), "OK 1", "EXEC");
}

static void watch(void) {
    redisContext *usual = context, *other = open_context();
    expect_text(run("WATCH hi:{w}"), "OK", "WATCH");
    context = other;
    expect_text(run("SET hi:{w} other"), "OK", "SET by another");
    context = usual;
    expect_text(run("MULTI"), "OK", "MULTI");
    expect_text(run("SET hi:{w} mine"), "QUEUED", "SET in MULTI");
    redisReply *reply = run("EXEC");
    if (reply->type != REDIS_REPLY_NIL) fail("EXEC after a change", reply);
    freeReplyObject(reply);
    redisFree(other);
}

/* True if a connection of this name waits in a blocking command. */
static int is_blocked(const char *name) {
    redisReply *reply = run("CLIENT LIST");
    char *line = strstr(reply->str, name);
    char *flags = line ? strstr(line, " flags=") : NULL;
    int blocked = flags && strcspn(flags + 7, "b") < strcspn(flags + 7, " ");
    freeReplyObject(reply);
    return blocked;
}

static void blocking(void) {
    redisContext *other = open_context();
    redisAppendCommand(other, "CLIENT SETNAME hi-blocked");
    redisAppendCommand(other, "BLPOP hi:{b}q 10");
    expect_text(next_reply(other), "OK", "CLIENT SETNAME");
    int sent = 0;
    while (!sent) redisBufferWrite(other, &sent);
    for (int i = 0; !is_blocked("name=hi-blocked "); i++) {
        if (i == 1000) fail("BLPOP does not wait", NULL);
        usleep(10000);
    }
    expect_integer(run("RPUSH hi:{b}q 1"), 1, "RPUSH");
    expect_array(next_reply(other), "hi:{b}q 1", "BLPOP");
    redisFree(other);
}

static void pubsub(void) {
    redisContext *other = open_context();
    redisAppendCommand(other, "SUBSCRIBE hi:channel");
    expect_array(next_reply(other), "subscribe hi:channel (nil)", "SUBSCRIBE");
    /* A cluster counts the subscribers at one of its nodes only: the number says nothing. */
    freeReplyObject(run("PUBLISH hi:channel one"));
    expect_array(next_reply(other), "message hi:channel one", "message");
    redisFree(other);
}

/* hiredis says that a connection is lost, and redisReconnect makes a new one. */
static void reconnect(void) {
    redisContext *usual = context, *victim = open_context();
    context = victim;
    redisReply *id = run("CLIENT ID");
    context = usual;
    expect_integer(run("CLIENT KILL ID %lld", id->integer), 1, "CLIENT KILL");
    freeReplyObject(id);
    redisReply *lost = redisCommand(victim, "PING");
    if (lost != NULL) {
        /* It was sent before the connection was closed. */
        freeReplyObject(lost);
        lost = redisCommand(victim, "PING");
    }
    if (lost != NULL || victim->err == 0) fail("a killed connection answers", lost);
    if (redisReconnect(victim) != REDIS_OK) fail("redisReconnect", NULL);
    context = victim;
    expect_text(run("PING"), "PONG", "PING after redisReconnect");
    context = usual;
    redisFree(victim);
}

static int is_offered(const char *family) {
    const char *left_out = getenv("SLOTWAY_LEAVE_OUT");
    return left_out == NULL || strstr(left_out, family) == NULL;
}

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    host = argv[1];
    port = atoi(argv[2]);
    context = open_context();
    data_types();
    pipeline();
    scan();
    transaction();
    if (is_offered("watch")) watch();
    if (is_offered("blocking")) blocking();
    if (is_offered("pubsub")) pubsub();
    reconnect();
    redisFree(context);
    return 0;
}
