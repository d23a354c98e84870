import assert from "node:assert/strict";
import { test } from "node:test";
import { Client } from "./client.js";

/** A connection that the test is the other end of. */
class Socket {
  constructor() {
    this.readyState = 1;
    this.sent = [];
  }

  send(text) {
    this.sent.push(JSON.parse(text));
  }

  close() {
    this.readyState = 3;
  }

  say(type, process, data = null) {
    this.onmessage({ data: JSON.stringify({ type, process, data }) });
  }

  hello() {
    this.onopen();
    this.say("hello", null, { version: 1, device: "pi", server: "", features: [], limits: {}, runners: [] });
  }

  break() {
    this.readyState = 3;
    this.onclose();
  }

  /** What was sent of this type, and not looked at yet. */
  take(type) {
    const found = this.sent.filter((message) => message.type === type);
    this.sent = this.sent.filter((message) => message.type !== type);
    return found;
  }
}

function setUp() {
  const sockets = [];
  const client = new Client("ws://x/run", "secret", () => {
    sockets.push(new Socket());
    return sockets.at(-1);
  });
  client.connect();
  sockets[0].hello();
  const heard = [];
  const program = client.start({ runner: "python3" }, {
    output: (text) => heard.push(text),
    failed: (message) => heard.push(`failed: ${message}`),
    stopped: ({ exitCode }) => heard.push(exitCode),
  });
  const again = () => {
    sockets.at(-1).break();
    client.check();
    sockets.at(-1).hello();
    return sockets.at(-1);
  };
  return { client, socket: sockets[0], program, heard, again };
}

const TICKET = { session: "s", key: "k", viewKey: "v" };
const ATTACHED = { seq: 3, state: "running", mode: "use", rows: 0, cols: 0, lost: 0, input: 1, holder: true, viewers: 1 };

test("a client says hello, and a program starts and ends", () => {
  const { client, socket, heard } = setUp();
  assert.deepEqual(socket.take("hello")[0].data, { version: 1, client: "secret", ack: true });
  socket.say("started", "1", TICKET);
  socket.say("stdout", "1", { output: "hi\n", seq: 3 });
  socket.say("stopped", "1", { exitCode: 0 });
  assert.deepEqual(heard, ["hi\n", 0]);
  assert.equal(client.programs.size, 0);
  client.close();
});

test("after a cut it comes back where it was, and sends what was not taken, once", () => {
  const { client, socket, program, again } = setUp();
  socket.say("started", "1", TICKET);
  socket.say("stdout", "1", { output: "one", seq: 3 });
  program.input("a\n");
  program.input("b\n");
  assert.deepEqual(socket.take("stdin").map(({ data }) => data), [{ input: "a\n", n: 1 }, { input: "b\n", n: 2 }]);
  const next = again();
  assert.deepEqual(next.take("attach")[0].data, { session: "s", key: "k", after: 3 });
  program.input("c\n");
  assert.equal(program.unsent, "c\n");
  next.say("attached", "1", ATTACHED);
  assert.deepEqual(next.take("stdin").map(({ data }) => data), [{ input: "b\n", n: 2 }, { input: "c\n", n: 3 }]);
  client.close();
});

test("what was typed without a connection can be discarded", () => {
  const { client, socket, program, again } = setUp();
  socket.say("started", "1", TICKET);
  socket.break();
  program.input("no\n");
  program.discard();
  client.check();
  const next = again();
  next.say("attached", "1", { ...ATTACHED, input: 0 });
  assert.deepEqual(next.take("stdin"), []);
  client.close();
});

test("a pong confirms input, and a stop without a connection goes later", () => {
  const { client, socket, program, again } = setUp();
  socket.say("started", "1", TICKET);
  program.input("a\n");
  socket.say("pong", null);
  assert.deepEqual(program.inputs, []);
  socket.break();
  program.stop();
  const next = again();
  next.say("attached", "1", ATTACHED);
  assert.equal(next.take("stop").length, 1);
  client.close();
});

test("a refused number is followed by the number that is wanted", () => {
  const { client, socket, program } = setUp();
  socket.say("started", "1", TICKET);
  program.input("a\n");
  socket.take("stdin");
  socket.say("error", null, { message: "Bad message: the number of the next input is 5" });
  assert.deepEqual(socket.take("stdin")[0].data, { input: "a\n", n: 5 });
  client.close();
});

test("output that is used is acknowledged, at once when it is much, and soon when it is little", async () => {
  const { client, socket, program } = setUp();
  socket.say("started", "1", TICKET);
  /** @type {(() => void)[]} */
  const uses = [];
  program.listener.output = (text) => (text === "now" ? undefined : new Promise((used) => uses.push(used)));
  const acks = () => socket.take("ack").map(({ data }) => data.seq);
  socket.say("stdout", "1", { output: "now", seq: 40_000 });
  assert.deepEqual(acks(), [40_000]);
  socket.say("stdout", "1", { output: "later", seq: 80_000 });
  socket.say("stderr", "1", { output: "later", seq: 80_001 });
  assert.deepEqual(acks(), []);
  uses.shift()?.();
  await null;
  assert.deepEqual(acks(), [80_000]);
  uses.shift()?.();
  await null;
  assert.deepEqual(acks(), []);
  while (program.acknowledged < 80_001) await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(acks(), [80_001]);
  program.listener.output = () => {};
  for (let n = 2; n <= 17; n += 1) socket.say("stdout", "1", { output: "n", seq: 80_000 + n });
  assert.deepEqual(acks(), [80_017]);
  // One that is not kept has no positions.
  socket.say("stdout", "1", { output: "now" });
  socket.break();
  program.use(90_000);
  program.acknowledge();
  assert.deepEqual(acks(), []);
  client.close();
});

test("what is left of a program that has ended is acknowledged, or the rest of it would not come", () => {
  const { client, socket, again } = setUp();
  socket.say("started", "1", TICKET);
  const next = again();
  next.say("attached", "1", { ...ATTACHED, state: "stopped" });
  next.say("stdout", "1", { output: "much", seq: 40_000 });
  assert.deepEqual(next.take("ack").map(({ data }) => data.seq), [40_000]);
  client.close();
});

test("a start that is refused says why, and the next one is asked", () => {
  const { client, socket, heard } = setUp();
  client.start({ runner: "c" }, {});
  assert.equal(socket.take("start").length, 1);
  socket.say("error", null, { message: "Message Exception: cannot start the program: no" });
  assert.deepEqual(heard, ["failed: Message Exception: cannot start the program: no"]);
  assert.equal(socket.take("start")[0].data.runner, "c");
  client.close();
});

test("who has not the keyboard takes it before typing, and goes on with the number of the program", () => {
  const { client, socket, program } = setUp();
  socket.say("started", "1", TICKET);
  socket.say("holder", "1", { holder: false, input: 0 });
  socket.take("stdin");
  program.input("two\n");
  assert.deepEqual(socket.take("stdin"), []);
  assert.equal(socket.take("take").length, 1);
  // The other page of this browser has typed number 1.
  socket.say("holder", "1", { holder: true, input: 1 });
  assert.deepEqual(socket.take("stdin").map(({ data }) => data), [{ input: "two\n", n: 2 }]);
  client.close();
});
