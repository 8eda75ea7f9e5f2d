/* A module with one command of each kind that the proxy routes, or refuses, by what COMMAND says of it. No data of its own: it calls
 * the server's GET, SET and DBSIZE.
 *
 * The declarations of the module API that it needs are written out here, so that it builds without any header of a server:
 * https://redis.io/docs/latest/develop/reference/modules/modules-api-ref/ (Valkey offers the same under the same names). */
#include <stddef.h>
#include <stdint.h>

#define OK 0
#define ERR 1

typedef struct Ctx Ctx;
typedef struct String String;
typedef struct Reply Reply;
typedef struct Command Command;
typedef int (*Run)(Ctx *ctx, String **argv, int argc);

/* Flags, begin_search and find_keys of a key specification. */
enum { KEY_RO = 1 << 0, KEY_RW = 1 << 1, KEY_ACCESS = 1 << 4, KEY_UPDATE = 1 << 5 };
enum { BEGIN_INDEX = 2, BEGIN_KEYWORD = 3 };
enum { FIND_RANGE = 2, FIND_KEYNUM = 3 };

typedef struct {
    const char *notes;
    uint64_t flags;
    int begin_search_type;
    union {
        struct { int pos; } index;
        struct { const char *keyword; int startfrom; } keyword;
    } bs;
    int find_keys_type;
    union {
        struct { int lastkey, keystep, limit; } range;
        struct { int keynumidx, firstkey, keystep; } keynum;
    } fk;
} KeySpec;

typedef struct { const char *since, *changes; } History;
typedef struct { const char *name; int type, key_spec_index; const char *token, *summary, *since; int flags; const char *deprecated_since; void *subargs; const char *display_text; } Arg;
typedef struct { int version; size_t sizeof_history, sizeof_keyspec, sizeof_arg; } InfoVersion;
typedef struct {
    const InfoVersion *version;
    const char *summary, *complexity, *since;
    History *history;
    const char *tips;
    int arity;
    KeySpec *key_specs;
    Arg *args;
} Info;

static int (*GetApi)(const char *name, void *target);
static void (*SetModuleAttribs)(Ctx *ctx, const char *name, int version, int api_version);
static int (*CreateCommand)(Ctx *ctx, const char *name, Run run, const char *flags, int first, int last, int step);
static Command *(*GetCommand)(Ctx *ctx, const char *name);
static int (*CreateSubcommand)(Command *parent, const char *name, Run run, const char *flags, int first, int last, int step);
static int (*SetCommandInfo)(Command *command, const Info *info);
static int (*IsKeysPositionRequest)(Ctx *ctx);
static void (*KeyAtPos)(Ctx *ctx, int position);
static int (*WrongArity)(Ctx *ctx);
static int (*ReplyWithLongLong)(Ctx *ctx, long long number);
static int (*ReplyWithSimpleString)(Ctx *ctx, const char *text);
static int (*ReplyWithArray)(Ctx *ctx, long count);
static int (*ReplyWithCallReply)(Ctx *ctx, Reply *reply);
static Reply *(*Call)(Ctx *ctx, const char *command, const char *format, ...);
static void (*FreeCallReply)(Reply *reply);

static int reply_with(Ctx *ctx, Reply *reply) {
    if (!reply) return ReplyWithSimpleString(ctx, "no reply");
    int result = ReplyWithCallReply(ctx, reply);
    FreeCallReply(reply);
    return result;
}

/* NAME key */
static int run_get(Ctx *ctx, String **argv, int argc) {
    if (argc != 2) return WrongArity(ctx);
    return reply_with(ctx, Call(ctx, "GET", "s", argv[1]));
}

/* NAME key value [key value ...] */
static int run_mset(Ctx *ctx, String **argv, int argc) {
    if (argc < 3 || argc % 2 == 0) return WrongArity(ctx);
    for (int at = 1; at < argc; at += 2) {
        Reply *reply = Call(ctx, "SET", "!ss", argv[at], argv[at + 1]);
        if (reply) FreeCallReply(reply);
    }
    return ReplyWithSimpleString(ctx, "OK");
}

/* NAME key [key ...] word: for each key its value and the word */
static int run_mget(Ctx *ctx, String **argv, int argc) {
    if (argc < 3) return WrongArity(ctx);
    ReplyWithArray(ctx, argc - 2);
    for (int at = 1; at < argc - 1; at++) {
        ReplyWithArray(ctx, 2);
        reply_with(ctx, Call(ctx, "GET", "s", argv[at]));
        reply_with(ctx, Call(ctx, "ECHO", "s", argv[argc - 1]));
    }
    return OK;
}

/* NAME key [key ...]: how many arguments */
static int run_count(Ctx *ctx, String **argv, int argc) {
    (void)argv;
    return ReplyWithLongLong(ctx, argc - 1);
}

/* NAME: the number of keys */
static int run_total(Ctx *ctx, String **argv, int argc) {
    (void)argv, (void)argc;
    return reply_with(ctx, Call(ctx, "DBSIZE", ""));
}

/* NAME container subcommand key value */
static int run_put(Ctx *ctx, String **argv, int argc) {
    if (argc != 4) return WrongArity(ctx);
    return reply_with(ctx, Call(ctx, "SET", "!ss", argv[2], argv[3]));
}

static int run_look(Ctx *ctx, String **argv, int argc) {
    if (argc != 3) return WrongArity(ctx);
    return reply_with(ctx, Call(ctx, "GET", "s", argv[2]));
}

/* NAME word key: only this code knows where the key is */
static int run_movable(Ctx *ctx, String **argv, int argc) {
    if (IsKeysPositionRequest(ctx)) {
        if (argc > 2) KeyAtPos(ctx, 2);
        return OK;
    }
    if (argc != 3) return WrongArity(ctx);
    return reply_with(ctx, Call(ctx, "GET", "s", argv[2]));
}

static const InfoVersion VERSION = {1, sizeof(History), sizeof(KeySpec), sizeof(Arg)};

/* What COMMAND says of it since 7.0. */
static int describe(Ctx *ctx, const char *name, int arity, const char *tips, KeySpec *keys) {
    if (!SetCommandInfo) return OK;
    Info info = {.version = &VERSION, .arity = arity, .tips = tips, .key_specs = keys};
    return SetCommandInfo(GetCommand(ctx, name), &info);
}

#define LOAD(name) GetApi("RedisModule_" #name, (void *)&name)

int RedisModule_OnLoad(Ctx *ctx, String **argv, int argc) {
    (void)argv, (void)argc;
    GetApi = *(int (**)(const char *, void *))ctx;
    LOAD(SetModuleAttribs), LOAD(CreateCommand), LOAD(GetCommand), LOAD(CreateSubcommand), LOAD(SetCommandInfo);
    LOAD(IsKeysPositionRequest), LOAD(KeyAtPos), LOAD(WrongArity), LOAD(ReplyWithLongLong), LOAD(ReplyWithSimpleString);
    LOAD(ReplyWithArray), LOAD(ReplyWithCallReply), LOAD(Call), LOAD(FreeCallReply);
    SetModuleAttribs(ctx, "slotmod", 1, 1);

    KeySpec counted[] = {{.flags = KEY_RO | KEY_ACCESS, .begin_search_type = BEGIN_KEYWORD, .bs.keyword = {"KEYS", 1},
                          .find_keys_type = FIND_KEYNUM, .fk.keynum = {0, 1, 1}}, {0}};
    if (CreateCommand(ctx, "Slot.Get", run_get, "readonly fast", 1, 1, 1) || describe(ctx, "Slot.Get", 2, NULL, NULL)) return ERR;
    if (CreateCommand(ctx, "slot.mset", run_mset, "write deny-oom", 1, -1, 2) ||
        describe(ctx, "slot.mset", -3, "request_policy:multi_shard response_policy:all_succeeded", NULL)) return ERR;
    if (CreateCommand(ctx, "slot.mget", run_mget, "readonly", 1, -2, 1) ||
        describe(ctx, "slot.mget", -3, "request_policy:multi_shard", NULL)) return ERR;
    if (CreateCommand(ctx, "slot.count", run_count, "readonly", 1, -1, 1)) return ERR;
    if (CreateCommand(ctx, "slot.total", run_total, "readonly", 0, 0, 0) ||
        describe(ctx, "slot.total", 1, "request_policy:all_shards response_policy:agg_sum", NULL)) return ERR;
    if (CreateCommand(ctx, "slot.here", run_total, "readonly", 0, 0, 0)) return ERR;
    if (CreateCommand(ctx, "slot.movable", run_movable, "readonly getkeys-api", 0, 0, 0)) return ERR;
    if (!CreateSubcommand) return OK;

    if (CreateCommand(ctx, "slot.counted", run_count, "readonly", 0, 0, 0) || describe(ctx, "slot.counted", -4, NULL, counted)) return ERR;
    if (CreateCommand(ctx, "slot.wait", run_count, "readonly blocking", 1, 1, 1)) return ERR;
    if (CreateCommand(ctx, "slot.box", NULL, "", 0, 0, 0)) return ERR;
    Command *box = GetCommand(ctx, "slot.box");
    if (CreateSubcommand(box, "put", run_put, "write", 2, 2, 1)) return ERR;
    return CreateSubcommand(box, "look", run_look, "readonly", 2, 2, 1);
}
