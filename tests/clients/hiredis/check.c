/* hiredis with its default settings through the proxy: silent on success, a message and exit code 1 otherwise. */

#include <hiredis/hiredis.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static redisContext *context;

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

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    context = redisConnect(argv[1], atoi(argv[2]));
    if (context == NULL || context->err) {
        fprintf(stderr, "hiredis: cannot connect: %s\n", context ? context->errstr : "no memory");
        return 1;
    }
    data_types();
    pipeline();
    redisFree(context);
    return 0;
}
