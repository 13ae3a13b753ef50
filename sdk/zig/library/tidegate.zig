//! What a Tidegate plugin in Zig is written with: the contract by the canonical ABI's own names, no generated code.
//!
//! A plugin is a struct with `pub fn configure(Configuration) !Self` and a method for each step that its plugin.toml names;
//! `comptime { tidegate.exportPlugin(Self); }` makes a component of it:
//!
//!     pub fn authorize(self: *const Self) !Verdict
//!     pub fn admit(self: *const Self) !Admission
//!     pub fn validate(self: *const Self) !Validity
//!     pub fn transformRequest(self: *const Self) !Outcome
//!     pub fn integrate(self: *const Self) !Plan
//!     pub fn transformResponse(self: *const Self) ![]const Edit
//!
//! An error in `configure` refuses the deployment; in a step it means that no decision could be made, and the binding's
//! fault policy applies. `fail` gives it a sentence.
//!
//! What the host gives and what `allocator` makes lives until the step call ends (in `configure`: for ever), so there is
//! nothing to free. A component imports only the interfaces whose functions it calls, so a binding needs grants for those
//! only. Units and bounds are documented in the WIT package tidegate:gateway.

const std = @import("std");

// ---- Outcomes ----

/// A name and its value.
pub const Field = struct { name: []const u8, value: []const u8 };

pub const Verdict = union(enum) {
    /// Proceed, as this principal.
    allow: Principal,
    /// 401, with a `WWW-Authenticate` challenge.
    unauthorized: ?[]const u8,
    /// 403; the reason is for the log.
    forbidden: ?[]const u8,
};

pub const Principal = struct {
    id: []const u8,
    /// Each becomes `$context.authorizer.{name}`.
    context: []const Field = &.{},
    usage_identifier_key: ?[]const u8 = null,
};

pub const Admission = union(enum) {
    admit,
    /// 429; the milliseconds until a retry can succeed.
    reject: u32,
};

pub const Validity = union(enum) {
    valid,
    /// 400, with a message for the caller.
    invalid_parameters: []const u8,
    /// 400, with a message for the caller.
    invalid_body: []const u8,
    /// 415.
    unsupported_media_type,
};

/// A change to a message; they are applied in their order.
pub const Edit = union(enum) {
    set_header: Field,
    append_header: Field,
    remove_header: []const u8,
    rename_header: Renaming,
    /// Of requests only, as the next three.
    set_query_parameter: Field,
    remove_query_parameter: []const u8,
    rename_query_parameter: Renaming,
    set_path: []const u8,
    /// Of responses only.
    set_status: u16,
    set_body: []const u8,
};

pub const Renaming = struct { from: []const u8, to: []const u8 };

pub const Response = struct {
    status: u16 = 200,
    headers: []const Field = &.{},
    body: []const u8 = "",
};

pub const Outcome = union(enum) {
    edits: []const Edit,
    /// Answers with this; the integration is not called.
    respond: Response,
};

pub const Plan = union(enum) {
    /// Sends the request to a server: an upstream of the node, or a granted host.
    forward: struct { uri: []const u8, method: ?[]const u8 = null, edits: []const Edit = &.{}, timeout_ms: ?u32 = null },
    /// Invokes a function of the node.
    invoke: struct { function: []const u8, edits: []const Edit = &.{}, timeout_ms: ?u32 = null },
    respond: Response,
};

/// An error with a sentence: `return tidegate.fail("no such key")`.
pub fn fail(reason: []const u8) error{Failed} {
    failure = reason;
    return error.Failed;
}

var failure: []const u8 = "";

// ---- The configuration ----

/// A binding's: one JSON document, which the host has checked against the plugin's schema.
pub const Configuration = struct {
    json: []const u8,

    /// As a struct, whose fields are the object's members; a default is for one that is not there.
    pub fn parse(self: Configuration, comptime T: type) !T {
        return std.json.parseFromSliceLeaky(T, allocator, self.json, .{ .ignore_unknown_fields = true });
    }
};

// ---- Memory ----

/// What it makes lives until the call ends; in `configure`, for ever.
pub const allocator: std.mem.Allocator = .{ .ptr = undefined, .vtable = &.{
    .alloc = arenaAlloc,
    .resize = arenaResize,
    .remap = arenaRemap,
    .free = arenaFree,
} };

var lasting = std.heap.ArenaAllocator.init(std.heap.wasm_allocator);
var passing = std.heap.ArenaAllocator.init(std.heap.wasm_allocator);
var configured = false;

fn arena() std.mem.Allocator {
    return if (configured) passing.allocator() else lasting.allocator();
}

fn arenaAlloc(_: *anyopaque, len: usize, alignment: std.mem.Alignment, address: usize) ?[*]u8 {
    return arena().rawAlloc(len, alignment, address);
}

fn arenaResize(_: *anyopaque, memory: []u8, alignment: std.mem.Alignment, len: usize, address: usize) bool {
    return arena().rawResize(memory, alignment, len, address);
}

fn arenaRemap(_: *anyopaque, memory: []u8, alignment: std.mem.Alignment, len: usize, address: usize) ?[*]u8 {
    return arena().rawRemap(memory, alignment, len, address);
}

fn arenaFree(_: *anyopaque, memory: []u8, alignment: std.mem.Alignment, address: usize) void {
    arena().rawFree(memory, alignment, address);
}

/// Where the host puts what it passes (canonical ABI, `realloc`).
export fn cabi_realloc(old: ?[*]u8, old_size: usize, alignment: usize, new_size: usize) [*]u8 {
    const made = arena().rawAlloc(@max(new_size, 1), std.mem.Alignment.fromByteUnits(alignment), 0) orelse @trap();
    if (old) |from| @memcpy(made[0..@min(old_size, new_size)], from[0..@min(old_size, new_size)]);
    return made;
}

// ---- What the canonical ABI makes of the contract's types ----

/// Where a list without items is: the host wants an address in the memory, also of nothing.
fn nothing(comptime T: type) [*]const T {
    return @ptrFromInt(16);
}

const Text = extern struct {
    ptr: [*]const u8,
    len: usize,

    fn of(text: []const u8) Text {
        return .{ .ptr = if (text.len == 0) nothing(u8) else text.ptr, .len = text.len };
    }

    fn slice(self: Text) []const u8 {
        return self.ptr[0..self.len];
    }
};

const OptionalText = extern struct {
    some: u8,
    text: Text,

    fn of(text: ?[]const u8) OptionalText {
        return .{ .some = @intFromBool(text != null), .text = .of(text orelse "") };
    }

    fn slice(self: OptionalText) ?[]const u8 {
        return if (self.some != 0) self.text.slice() else null;
    }
};

const Pair = extern struct { name: Text, value: Text };
const Pairs = extern struct { ptr: [*]const Pair, len: usize };
const OptionalNumber = extern struct { some: u8, value: u32 };
const LoweredEdit = extern struct { tag: u8, first: Text, second: Text };
const LoweredEdits = extern struct { ptr: [*]const LoweredEdit, len: usize };
const LoweredResponse = extern struct { status: u16, headers: Pairs, body: Text };

fn lowerFields(fields: []const Field) Pairs {
    const pairs = allocator.alloc(Pair, fields.len) catch @trap();
    for (fields, pairs) |field, *pair| pair.* = .{ .name = .of(field.name), .value = .of(field.value) };
    return .{ .ptr = if (pairs.len == 0) nothing(Pair) else pairs.ptr, .len = pairs.len };
}

fn liftFields(pairs: Pairs) []const Field {
    const fields = allocator.alloc(Field, pairs.len) catch @trap();
    for (pairs.ptr[0..pairs.len], fields) |pair, *field| {
        field.* = .{ .name = pair.name.slice(), .value = pair.value.slice() };
    }
    return fields;
}

fn lowerResponse(response_: Response) LoweredResponse {
    return .{ .status = response_.status, .headers = lowerFields(response_.headers), .body = .of(response_.body) };
}

fn lowerEdits(edits: []const Edit) LoweredEdits {
    const lowered = allocator.alloc(LoweredEdit, edits.len) catch @trap();
    for (edits, lowered) |edit, *place| place.* = lowerEdit(edit);
    return .{ .ptr = if (lowered.len == 0) nothing(LoweredEdit) else lowered.ptr, .len = lowered.len };
}

fn lowerEdit(edit: Edit) LoweredEdit {
    // The union's order is the variant's.
    const tag: u8 = @intFromEnum(std.meta.activeTag(edit));
    const first: []const u8, const second: []const u8 = switch (edit) {
        .set_header, .append_header, .set_query_parameter => |field| .{ field.name, field.value },
        .rename_header, .rename_query_parameter => |renaming| .{ renaming.from, renaming.to },
        .remove_header, .remove_query_parameter, .set_path, .set_body => |text| .{ text, "" },
        .set_status => |status| {
            var lowered: LoweredEdit = .{ .tag = tag, .first = .of(""), .second = .of("") };
            @as(*u16, @ptrCast(&lowered.first)).* = status;
            return lowered;
        },
    };
    return .{ .tag = tag, .first = .of(first), .second = .of(second) };
}

// ---- The request in hand ----

pub const request = struct {
    const host = struct {
        extern "tidegate:gateway/request@0.1.0" fn method(*Text) void;
        extern "tidegate:gateway/request@0.1.0" fn path(*Text) void;
        extern "tidegate:gateway/request@0.1.0" fn @"query-string"(*OptionalText) void;
        extern "tidegate:gateway/request@0.1.0" fn header([*]const u8, usize, *OptionalText) void;
        extern "tidegate:gateway/request@0.1.0" fn headers(*Pairs) void;
        extern "tidegate:gateway/request@0.1.0" fn @"query-parameter"([*]const u8, usize, *OptionalText) void;
        extern "tidegate:gateway/request@0.1.0" fn @"query-parameters"(*Pairs) void;
        extern "tidegate:gateway/request@0.1.0" fn @"path-parameter"([*]const u8, usize, *OptionalText) void;
        extern "tidegate:gateway/request@0.1.0" fn @"path-parameters"(*Pairs) void;
        extern "tidegate:gateway/request@0.1.0" fn @"stage-variable"([*]const u8, usize, *OptionalText) void;
        extern "tidegate:gateway/request@0.1.0" fn context([*]const u8, usize, *OptionalText) void;
    };

    pub fn method() []const u8 {
        return readText(host.method);
    }

    /// Below the stage, percent-encoded, without the query.
    pub fn path() []const u8 {
        return readText(host.path);
    }

    pub fn queryString() ?[]const u8 {
        var found: OptionalText = undefined;
        host.@"query-string"(&found);
        return found.slice();
    }

    pub fn header(name: []const u8) ?[]const u8 {
        return lookUp(host.header, name);
    }

    /// All field lines in the order received, names in lower case.
    pub fn headers() []const Field {
        return readFields(host.headers);
    }

    pub fn queryParameter(name: []const u8) ?[]const u8 {
        return lookUp(host.@"query-parameter", name);
    }

    pub fn queryParameters() []const Field {
        return readFields(host.@"query-parameters");
    }

    pub fn pathParameter(name: []const u8) ?[]const u8 {
        return lookUp(host.@"path-parameter", name);
    }

    pub fn pathParameters() []const Field {
        return readFields(host.@"path-parameters");
    }

    pub fn stageVariable(name: []const u8) ?[]const u8 {
        return lookUp(host.@"stage-variable", name);
    }

    /// A variable of `$context`, without the prefix: `requestId`.
    pub fn context(name: []const u8) ?[]const u8 {
        return lookUp(host.context, name);
    }

    /// The content. A component that calls it makes the host collect the body first.
    pub fn body() []const u8 {
        const its = struct {
            extern "tidegate:gateway/request-body@0.1.0" fn read(*Text) void;
        };
        return readText(its.read);
    }
};

/// The response in hand, in `transformResponse`.
pub const response = struct {
    const host = struct {
        extern "tidegate:gateway/response@0.1.0" fn status() u32;
        extern "tidegate:gateway/response@0.1.0" fn header([*]const u8, usize, *OptionalText) void;
        extern "tidegate:gateway/response@0.1.0" fn headers(*Pairs) void;
    };

    pub fn status() u16 {
        return @intCast(host.status());
    }

    pub fn header(name: []const u8) ?[]const u8 {
        return lookUp(host.header, name);
    }

    pub fn headers() []const Field {
        return readFields(host.headers);
    }

    /// The content. A component that calls it makes the host collect the body first.
    pub fn body() []const u8 {
        const its = struct {
            extern "tidegate:gateway/response-body@0.1.0" fn read(*Text) void;
        };
        return readText(its.read);
    }
};

fn readText(comptime function: anytype) []const u8 {
    var text: Text = undefined;
    function(&text);
    return text.slice();
}

fn readFields(comptime function: anytype) []const Field {
    var pairs: Pairs = undefined;
    function(&pairs);
    return liftFields(pairs);
}

fn lookUp(comptime function: anytype, name: []const u8) ?[]const u8 {
    var found: OptionalText = undefined;
    function(name.ptr, name.len, &found);
    return found.slice();
}

// ---- What a binding must be granted ----

/// Grant: `crypto`.
pub const crypto = struct {
    const host = struct {
        extern "tidegate:gateway/crypto@0.1.0" fn digest(u32, [*]const u8, usize, *Text) void;
        extern "tidegate:gateway/crypto@0.1.0" fn hmac(u32, [*]const u8, usize, [*]const u8, usize, *Text) void;
        extern "tidegate:gateway/crypto@0.1.0" fn equal([*]const u8, usize, [*]const u8, usize) u32;
    };

    pub const Algorithm = enum(u32) { sha256, sha384, sha512 };

    pub fn digest(algorithm: Algorithm, data: []const u8) []const u8 {
        var output: Text = undefined;
        host.digest(@intFromEnum(algorithm), data.ptr, data.len, &output);
        return output.slice();
    }

    pub fn hmac(algorithm: Algorithm, key: []const u8, data: []const u8) []const u8 {
        var output: Text = undefined;
        host.hmac(@intFromEnum(algorithm), key.ptr, key.len, data.ptr, data.len, &output);
        return output.slice();
    }

    /// Compares in a time that depends on the lengths only.
    pub fn equal(a: []const u8, b: []const u8) bool {
        return host.equal(a.ptr, a.len, b.ptr, b.len) != 0;
    }
};

/// A cache that all instances of a binding share. Grant: `shared-cache`.
pub const shared_cache = struct {
    const host = struct {
        extern "tidegate:gateway/shared-cache@0.1.0" fn get([*]const u8, usize, *OptionalText) void;
        extern "tidegate:gateway/shared-cache@0.1.0" fn set([*]const u8, usize, [*]const u8, usize, u32) void;
        extern "tidegate:gateway/shared-cache@0.1.0" fn delete([*]const u8, usize) void;
    };

    pub fn get(key: []const u8) ?[]const u8 {
        return lookUp(host.get, key);
    }

    pub fn set(key: []const u8, value: []const u8, ttl_ms: u32) void {
        host.set(key.ptr, key.len, value.ptr, value.len, ttl_ms);
    }

    pub fn delete(key: []const u8) void {
        host.delete(key.ptr, key.len);
    }
};

/// Token buckets. Grant: `rate-limit`.
pub const rate_limit = struct {
    extern "tidegate:gateway/rate-limit@0.1.0" fn take([*]const u8, usize, f64, u32, *OptionalNumber) void;

    /// Takes a token: null where there was one, or the milliseconds until there is.
    pub fn takeToken(bucket: []const u8, rate: f64, burst: u32) ?u32 {
        var taken: OptionalNumber = undefined; // the variant's layout is the option's
        take(bucket.ptr, bucket.len, rate, burst, &taken);
        return if (taken.some != 0) taken.value else null;
    }
};

/// Secrets by name. Grant: `secrets`.
pub const secrets = struct {
    const host = struct {
        extern "tidegate:gateway/secrets@0.1.0" fn get([*]const u8, usize, *OptionalText) void;
    };

    pub fn get(name: []const u8) ?[]const u8 {
        return lookUp(host.get, name);
    }
};

/// Counters of the plugin's own. Grant: `metrics`.
pub const metrics = struct {
    const host = struct {
        extern "tidegate:gateway/metrics@0.1.0" fn count([*]const u8, usize, u32) void;
    };

    pub fn count(event: []const u8, amount: u32) void {
        host.count(event.ptr, event.len, amount);
    }
};

/// The node's log, with the binding's name and the request's id. Needs no grant.
pub const log = struct {
    const host = struct {
        extern "tidegate:gateway/log@0.1.0" fn write(u32, [*]const u8, usize) void;
    };

    const Level = enum(u32) { trace, debug, info, warn, @"error" };

    pub fn debug(message: []const u8) void {
        line(.debug, message);
    }

    pub fn info(message: []const u8) void {
        line(.info, message);
    }

    pub fn warn(message: []const u8) void {
        line(.warn, message);
    }

    pub fn err(message: []const u8) void {
        line(.@"error", message);
    }

    fn line(level: Level, message: []const u8) void {
        host.write(@intFromEnum(level), message.ptr, message.len);
    }
};

// ---- The exports ----

/// Makes a component of a plugin: exports `configure` and every step that it has a method for.
pub fn exportPlugin(comptime Plugin: type) void {
    const its = struct {
        var plugin: Plugin = undefined;

        fn configure(ptr: [*]const u8, len: usize) callconv(.c) *const Result(Setup) {
            plugin = Plugin.configure(.{ .json = ptr[0..len] }) catch |failed| return failedWith(Setup, failed);
            configured = true;
            return succeeded(Setup, .{});
        }

        fn authorize(_: [*]const u8, _: usize) callconv(.c) *const Result(LoweredVerdict) {
            const verdict = plugin.authorize() catch |failed| return failedWith(LoweredVerdict, failed);
            return succeeded(LoweredVerdict, lowerVerdict(verdict));
        }

        fn admit(_: [*]const u8, _: usize) callconv(.c) *const Result(OptionalNumber) {
            const admission: Admission = plugin.admit() catch |failed| return failedWith(OptionalNumber, failed);
            return succeeded(OptionalNumber, switch (admission) {
                .admit => .{ .some = 0, .value = 0 },
                .reject => |retry_ms| .{ .some = 1, .value = retry_ms },
            });
        }

        fn validate(_: [*]const u8, _: usize) callconv(.c) *const Result(OptionalText) {
            const validity: Validity = plugin.validate() catch |failed| return failedWith(OptionalText, failed);
            const message: []const u8 = switch (validity) {
                .valid, .unsupported_media_type => "",
                .invalid_parameters, .invalid_body => |message| message,
            };
            const tag: u8 = @intFromEnum(std.meta.activeTag(validity));
            return succeeded(OptionalText, .{ .some = tag, .text = .of(message) });
        }

        fn transformRequest(_: [*]const u8, _: usize) callconv(.c) *const Result(LoweredOutcome) {
            const outcome: Outcome = plugin.transformRequest() catch |failed| return failedWith(LoweredOutcome, failed);
            return succeeded(LoweredOutcome, switch (outcome) {
                .edits => |edits| .{ .tag = 0, .payload = .{ .edits = lowerEdits(edits) } },
                .respond => |whole| .{ .tag = 1, .payload = .{ .respond = lowerResponse(whole) } },
            });
        }

        fn integrate(_: [*]const u8, _: usize) callconv(.c) *const Result(LoweredPlan) {
            const plan: Plan = plugin.integrate() catch |failed| return failedWith(LoweredPlan, failed);
            return succeeded(LoweredPlan, lowerPlan(plan));
        }

        fn transformResponse(_: [*]const u8, _: usize) callconv(.c) *const Result(LoweredEdits) {
            const edits = plugin.transformResponse() catch |failed| return failedWith(LoweredEdits, failed);
            return succeeded(LoweredEdits, lowerEdits(edits));
        }
    };
    exportFunction(&its.configure, "plugin", "configure");
    if (@hasDecl(Plugin, "authorize")) exportFunction(&its.authorize, "authorizer", "authorize");
    if (@hasDecl(Plugin, "admit")) exportFunction(&its.admit, "throttle", "admit");
    if (@hasDecl(Plugin, "validate")) exportFunction(&its.validate, "validator", "validate");
    if (@hasDecl(Plugin, "transformRequest")) exportFunction(&its.transformRequest, "request-transform", "transform-request");
    if (@hasDecl(Plugin, "integrate")) exportFunction(&its.integrate, "integration", "integrate");
    if (@hasDecl(Plugin, "transformResponse")) exportFunction(&its.transformResponse, "response-transform", "transform-response");
}

fn exportFunction(comptime function: anytype, comptime interface: []const u8, comptime name: []const u8) void {
    const full = "tidegate:gateway/" ++ interface ++ "@0.1.0#" ++ name;
    @export(function, .{ .name = full });
    // Called once the host has read the answer.
    @export(&endCall, .{ .name = "cabi_post_" ++ full });
}

fn endCall(_: *const anyopaque) callconv(.c) void {
    _ = passing.reset(.retain_capacity);
}

/// `result<T, string>`.
fn Result(comptime T: type) type {
    return extern struct { tag: u8, payload: extern union { ok: T, err: Text } };
}

fn succeeded(comptime T: type, value: T) *const Result(T) {
    return answer(T, .{ .tag = 0, .payload = .{ .ok = value } });
}

fn failedWith(comptime T: type, failed: anyerror) *const Result(T) {
    const reason = if (failed == error.Failed) failure else @errorName(failed);
    return answer(T, .{ .tag = 1, .payload = .{ .err = .of(reason) } });
}

fn answer(comptime T: type, result: Result(T)) *const Result(T) {
    const place = allocator.create(Result(T)) catch @trap();
    place.* = result;
    return place;
}

/// `setup` with no reading and nothing that stands: zeros, but for pointers, which are not looked at.
const Setup = extern struct { words: [20]u32 = @splat(0) };

const LoweredPrincipal = extern struct { id: Text, context: Pairs, key: OptionalText };
const LoweredVerdict = extern struct {
    tag: u8,
    payload: extern union { allow: LoweredPrincipal, reason: OptionalText },
};

fn lowerVerdict(verdict: Verdict) LoweredVerdict {
    return .{ .tag = @intFromEnum(std.meta.activeTag(verdict)), .payload = switch (verdict) {
        .allow => |principal| .{ .allow = .{
            .id = .of(principal.id),
            .context = lowerFields(principal.context),
            .key = .of(principal.usage_identifier_key),
        } },
        .unauthorized, .forbidden => |reason| .{ .reason = .of(reason) },
    } };
}

const LoweredOutcome = extern struct {
    tag: u8,
    payload: extern union { edits: LoweredEdits, respond: LoweredResponse },
};

const LoweredForward = extern struct { uri: Text, method: OptionalText, edits: LoweredEdits, timeout_ms: OptionalNumber };
const LoweredInvocation = extern struct { function: Text, edits: LoweredEdits, timeout_ms: OptionalNumber };
const LoweredPlan = extern struct {
    tag: u8,
    payload: extern union { forward: LoweredForward, invoke: LoweredInvocation, respond: LoweredResponse },
};

fn lowerPlan(plan: Plan) LoweredPlan {
    return .{ .tag = @intFromEnum(std.meta.activeTag(plan)), .payload = switch (plan) {
        .forward => |it| .{ .forward = .{
            .uri = .of(it.uri),
            .method = .of(it.method),
            .edits = lowerEdits(it.edits),
            .timeout_ms = lowerTimeout(it.timeout_ms),
        } },
        .invoke => |it| .{ .invoke = .{
            .function = .of(it.function),
            .edits = lowerEdits(it.edits),
            .timeout_ms = lowerTimeout(it.timeout_ms),
        } },
        .respond => |it| .{ .respond = lowerResponse(it) },
    } };
}

fn lowerTimeout(timeout_ms: ?u32) OptionalNumber {
    return .{ .some = @intFromBool(timeout_ms != null), .value = timeout_ms orelse 0 };
}
