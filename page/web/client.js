// The conversation with the daemon: hello, programs that are kept, coming back after a cut, and numbers of
// input. Without DOM: it runs in Node as well. page/README.md has an example.

/**
 * What a program on the device says to the page. All are optional. Where `output` and `screen` return a promise, the
 * text counts as used when it is kept, and the program waits when too much is unused.
 * @typedef {object} Listener
 * @property {(text: string, stream: "stdout" | "stderr" | "compile") => void | Promise<void>} [output]
 * @property {(text: string) => void | Promise<void>} [screen] The terminal as it is now, to be written into an
 *   emulator.
 * @property {(bytes: number) => void} [lost] So many bytes are not there any more.
 * @property {(base64: string) => void} [video]
 * @property {(key: string) => void} [keylisten]
 * @property {(rows: number, cols: number) => void} [resized]
 * @property {(ended: Ended) => void} [stopped]
 * @property {() => void} [changed] State, holder, viewers, or what waits to be sent.
 * @property {(message: string) => void} [failed] It did not start, or cannot be attached to any more.
 */

/** @typedef {{exitCode: number, reason?: string, cpuMs?: number, peakMemory?: number}} Ended */
/** @typedef {{session: string, key: string, viewKey?: string, seq?: number}} Ticket */
/** @typedef {{n: number, text: string, end: boolean, sent: boolean}} Input */
/** @typedef {{id: string, title: string, extensions: string[], available: boolean, hint?: string}} Runner */
/**
 * @typedef {{session: string, started: number, runner: string, path: string | null, state: string,
 *   viewers: number, seconds: number, exitCode?: number}} Session
 */
/** @typedef {{type: string, process?: string | null, data?: any}} Message */

/** Milliseconds between attempts; the last one repeats. A network that is back is noticed in time. */
const DELAYS = [100, 300, 700, 1500, 2500];
/** A connection that says nothing for this long is asked, and given up after as long again. */
const SILENCE = 8000;
/** The same where something says that the network has changed. */
const DOUBT = 1500;
/** Most characters that wait to be sent; what does not fit is refused. */
const MOST_WAITING = 256 * 1024;
/** Bytes and pieces of output after which the device hears at once that they were used. */
const ACK_BYTES = 32 * 1024;
const ACK_PIECES = 16;
/** Milliseconds until it hears of the rest. In a hidden page it may be a minute. */
const ACK_DELAY = 50;

/** A program on the device, as long as this client is interested in it. */
export class Program {
  /**
   * @param {Client} client
   * @param {string} id
   * @param {Listener} listener
   */
  constructor(client, id, listener) {
    this.client = client;
    this.id = id;
    this.listener = listener;
    /** @type {"starting" | "running" | "away" | "stopped" | "failed"} */
    this.state = "starting";
    this.session = "";
    this.key = "";
    this.viewKey = "";
    /** Position behind the last output that was taken. @type {number | undefined} */
    this.seq = undefined;
    /** @type {"use" | "view"} */
    this.mode = "use";
    this.holder = true;
    this.viewers = 1;
    this.rows = 0;
    this.cols = 0;
    /** Whether a stop was asked for, and not sent yet. @type {string | null} */
    this.stopping = null;
    /** Not confirmed yet, or not sent. @type {Input[]} */
    this.inputs = [];
    this.next = 1;
    /** The positions that were used, and that the device has heard of. */
    this.used = this.acknowledged = 0;
    this.unacknowledged = 0;
    /** @type {any} */
    this.ackTimer = null;
  }

  get isLive() {
    return this.state === "starting" || this.state === "running" || this.state === "away";
  }

  /** What has not been sent, as text. */
  get unsent() {
    return this.inputs.filter((input) => !input.sent).map((input) => input.text).join("");
  }

  /** @returns {Ticket} What another connection needs to come back to it. */
  get ticket() {
    return { session: this.session, key: this.key, viewKey: this.viewKey, seq: this.seq };
  }

  /**
   * Types into the program. False: too much waits already.
   * @param {string} text
   * @param {boolean} [end] No more input after this.
   */
  input(text, end = false) {
    const waiting = this.inputs.reduce((sum, input) => sum + input.text.length, 0);
    if (!this.isLive || waiting + text.length > MOST_WAITING) return false;
    const last = this.inputs.at(-1);
    if (last && !last.sent && !last.end) {
      last.text += text;
      last.end = end;
    } else {
      this.inputs.push({ n: 0, text, end, sent: false });
    }
    this.client.flush(this);
    this.listener.changed?.();
    return true;
  }

  /** Forgets what has not been sent. */
  discard() {
    this.inputs = this.inputs.filter((input) => input.sent);
    this.listener.changed?.();
  }

  /** @param {number} rows @param {number} cols */
  resize(rows, cols) {
    this.rows = rows;
    this.cols = cols;
    if (this.state === "running" && this.mode === "use") this.send("resize", { rows, cols });
  }

  /** Ends the program; as soon as there is a connection, if there is none now. */
  stop(signal = "") {
    if (!this.isLive) return;
    if (this.state === "running") this.send("stop", signal ? { signal } : undefined);
    else this.stopping = signal;
  }

  take() {
    if (this.state === "running") this.send("take");
  }

  /** @param {string} key @param {"keydown" | "keyup"} event */
  keyevent(key, event) {
    if (this.state === "running") this.send("keyevent", { key, event });
  }

  /** Leaves the program alone; it goes on without this client. */
  leave() {
    if (this.client.isOpen && this.isLive) this.send("detach");
    this.client.programs.delete(this.id);
    this.state = "stopped";
  }

  /** Output is used, in its order: the device hears of it. @param {number} seq */
  use(seq) {
    this.used = seq;
    this.unacknowledged += 1;
    if (this.used - this.acknowledged >= ACK_BYTES || this.unacknowledged >= ACK_PIECES) this.acknowledge();
    else this.ackTimer ??= setTimeout(() => this.acknowledge(), ACK_DELAY);
  }

  acknowledge() {
    clearTimeout(this.ackTimer);
    this.ackTimer = null;
    // Output may be what is left of a program that has ended. After a cut the device counts from where this client has
    // come back.
    if (!this.client.isOpen || !this.isLive || this.used <= this.acknowledged) return;
    this.acknowledged = this.used;
    this.unacknowledged = 0;
    this.send("ack", { seq: this.used });
  }

  /** @param {string} type @param {object} [data] */
  send(type, data) {
    this.client.send({ type, process: this.id, ...(data ? { data } : {}) });
  }
}

/**
 * A connection that comes back by itself.
 * Events: `state` when `state` has changed, `hello`, `sessions` with a list, `problem` with a text.
 */
export class Client extends EventTarget {
  /**
   * @param {string} url Of `/run`.
   * @param {string} secret Of this browser: programs belong to it.
   * @param {(url: string) => WebSocket} [open]
   */
  constructor(url, secret, open = (address) => new WebSocket(address)) {
    super();
    this.url = url;
    this.secret = secret;
    this.open = open;
    /** @type {"connecting" | "open" | "waiting" | "closed"} */
    this.state = "closed";
    /** @type {{device: string, server: string, runners: Runner[], features: string[], limits: any} | null} */
    this.hello = null;
    /** @type {Map<string, Program>} */
    this.programs = new Map();
    /** @type {WebSocket | null} */
    this.socket = null;
    /** @type {{program: Program, start: object | null}[]} */
    this.asking = [];
    this.attempt = 0;
    this.count = 0;
    /** @type {any} */
    this.timer = null;
    /** @type {any} */
    this.guard = null;
    /** Programs and numbers of input that the pong of each ping confirms. @type {[Program, number][][]} */
    this.pings = [];
    /** @type {Program | null} */
    this.typed = null;
    /** @type {((sessions: Session[]) => void)[]} */
    this.listing = [];
  }

  get isOpen() {
    return this.state === "open";
  }

  connect() {
    if (this.socket) return;
    clearTimeout(this.timer);
    this.become("connecting");
    const socket = this.open(this.url);
    this.socket = socket;
    socket.onopen = () => {
      this.send({ type: "hello", data: { version: 1, client: this.secret, ack: true } });
    };
    socket.onmessage = ({ data }) => {
      if (this.socket !== socket) return;
      this.watch(SILENCE);
      this.handle(JSON.parse(data));
    };
    socket.onclose = () => {
      if (this.socket === socket) this.gone();
    };
    this.watch(SILENCE);
  }

  /** Ends the connection for good. */
  close() {
    const socket = this.socket;
    this.socket = null;
    clearTimeout(this.timer);
    clearTimeout(this.guard);
    socket?.close();
    this.become("closed");
  }

  /** The network may have changed: tries at once, or makes sure that the connection still lives. */
  check() {
    if (this.state === "closed") return;
    if (this.state === "open") {
      this.ping([]);
      this.watch(DOUBT, true);
    } else {
      // An attempt on the old network may hang for minutes.
      this.drop();
      this.attempt = 0;
      this.connect();
    }
  }

  /**
   * Starts a program, which is kept.
   * @param {object} data As in API.md.
   * @param {Listener} listener
   */
  start(data, listener) {
    const program = this.make(listener);
    this.ask({ program, start: data });
    return program;
  }

  /**
   * Comes back to a program.
   * @param {Ticket} ticket
   * @param {Listener} listener
   */
  attach(ticket, listener) {
    const program = this.make(listener);
    Object.assign(program, { session: ticket.session, key: ticket.key, viewKey: ticket.viewKey ?? "" });
    program.seq = ticket.seq;
    program.state = "away";
    if (this.isOpen) this.ask({ program, start: null });
    return program;
  }

  /** @returns {Promise<Session[]>} The kept programs of this browser; none without a connection. */
  sessions() {
    if (!this.isOpen) return Promise.resolve([]);
    return new Promise((resolve) => {
      this.listing.push(resolve);
      this.send({ type: "sessions" });
    });
  }

  // What follows is for this file.

  /** @param {Listener} listener */
  make(listener) {
    this.count += 1;
    const program = new Program(this, String(this.count), listener);
    this.programs.set(program.id, program);
    return program;
  }

  /** @param {{program: Program, start: object | null}} question */
  ask(question) {
    this.asking.push(question);
    if (this.asking.length === 1) this.askNext();
  }

  askNext() {
    const question = this.asking[0];
    if (!question || !this.isOpen) return;
    const { program, start } = question;
    if (!this.programs.has(program.id)) return this.answered();
    if (start) {
      program.send("start", start);
    } else {
      const size = program.rows ? { rows: program.rows, cols: program.cols } : {};
      const after = program.seq === undefined ? {} : { after: program.seq };
      // The view key is the only one of who watches.
      const key = program.key || program.viewKey;
      program.send("attach", { session: program.session, key, ...after, ...size });
    }
  }

  answered() {
    this.asking.shift();
    this.askNext();
  }

  /** @param {Message} message */
  send(message) {
    if (this.socket?.readyState === 1) this.socket.send(JSON.stringify(message));
  }

  /** @param {[Program, number][]} confirms */
  ping(confirms) {
    this.pings.push(confirms);
    this.send({ type: "ping" });
  }

  /** @param {Program} program */
  flush(program) {
    if (!this.isOpen || program.state !== "running" || program.mode !== "use") return;
    let last = 0;
    if (!program.holder) {
      // Another page of this browser may have typed meanwhile, and its numbers would count as this one's: the
      // answer says which is the next.
      if (program.inputs.some((input) => !input.sent)) program.take();
      return;
    }
    for (const input of program.inputs) {
      if (input.sent) continue;
      input.n = program.next;
      program.next += 1;
      input.sent = true;
      last = input.n;
      const kept = program.session ? { n: input.n } : {};
      program.send("stdin", { input: input.text, ...kept, ...(input.end ? { end: true } : {}) });
    }
    if (!last) return;
    this.typed = program;
    // Messages are handled one after the other: its pong says that these were taken.
    this.ping([[program, last]]);
  }

  /** @param {number} time @param {boolean} [asked] */
  watch(time, asked = false) {
    clearTimeout(this.guard);
    this.guard = setTimeout(() => {
      if (asked || this.state !== "open") {
        this.drop();
        this.gone();
      } else {
        this.ping([]);
        this.watch(time, true);
      }
    }, time);
    this.guard.unref?.();
  }

  drop() {
    const socket = this.socket;
    this.socket = null;
    if (!socket) return;
    socket.onopen = socket.onmessage = socket.onclose = null;
    socket.close();
  }

  gone() {
    this.socket = null;
    clearTimeout(this.guard);
    this.pings = [];
    this.typed = null;
    this.listing.splice(0).forEach((resolve) => resolve([]));
    const unanswered = this.asking.splice(0).filter(({ start }) => start);
    for (const { program } of unanswered) this.fail(program, "");
    for (const program of this.programs.values()) {
      if (!program.isLive) continue;
      if (!program.session) this.fail(program, "");
      else program.state = "away";
      program.listener.changed?.();
    }
    const delay = DELAYS[Math.min(this.attempt, DELAYS.length - 1)] ?? 0;
    this.attempt += 1;
    this.become("waiting");
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.connect(), delay);
  }

  /** @param {Program} program @param {string} message */
  fail(program, message) {
    program.state = "failed";
    this.programs.delete(program.id);
    program.listener.failed?.(message);
    program.listener.changed?.();
  }

  /** @param {Client["state"]} state */
  become(state) {
    if (this.state === state) return;
    this.state = state;
    this.dispatchEvent(new Event("state"));
  }

  /** @param {Message} message */
  handle({ type, process, data }) {
    switch (type) {
      case "hello":
        this.attempt = 0;
        this.hello = data;
        this.become("open");
        this.dispatchEvent(new Event("hello"));
        this.comeBack();
        return;
      case "pong":
        for (const [program, n] of this.pings.shift() ?? []) {
          program.inputs = program.inputs.filter((input) => !input.sent || input.n > n);
        }
        return;
      case "sessions":
        this.listing.shift()?.(data.sessions);
        return;
      case "error":
        this.complain(data?.message ?? "");
        return;
    }
    const program = typeof process === "string" ? this.programs.get(process) : undefined;
    if (program) this.tell(program, type, data);
  }

  /** After a cut: attaches to all that still matter. */
  comeBack() {
    this.askNext();
    for (const program of this.programs.values()) {
      const asks = this.asking.some((question) => question.program === program);
      if (program.state === "away" && !asks) this.ask({ program, start: null });
    }
  }

  /** @param {string} message */
  complain(message) {
    const wanted = /^Bad message: the number of the next input is (\d+)$/.exec(message);
    if (wanted && this.typed) {
      // Somebody else has typed meanwhile. What was refused goes again, with new numbers.
      const program = this.typed;
      program.next = Number(wanted[1]);
      for (const input of program.inputs) input.sent = false;
      this.pings = this.pings.map((confirms) => confirms.filter(([of]) => of !== program));
      this.flush(program);
      return;
    }
    const question = this.asking[0];
    if (question) {
      this.fail(question.program, message);
      this.answered();
      return;
    }
    this.dispatchEvent(new CustomEvent("problem", { detail: message }));
  }

  /**
   * @param {Program} program
   * @param {string} type
   * @param {any} data
   */
  tell(program, type, data) {
    const { listener } = program;
    switch (type) {
      case "started":
        program.state = "running";
        if (data) {
          program.session = data.session;
          program.key = data.key;
          program.viewKey = data.viewKey;
        }
        this.answered();
        this.ready(program);
        break;
      case "attached":
        program.state = data.state === "stopped" ? "away" : "running";
        program.mode = data.mode;
        program.holder = data.holder;
        program.viewers = data.viewers;
        if (data.lost > 0) listener.lost?.(data.lost);
        program.inputs = program.inputs.filter((input) => !input.sent || input.n > data.input);
        program.next = data.input + 1;
        for (const input of program.inputs) input.sent = false;
        this.answered();
        if (data.rows) listener.resized?.(data.rows, data.cols);
        this.ready(program);
        break;
      case "stdout":
      case "stderr":
        if (typeof data.seq === "number") program.seq = data.seq;
        this.used(program, data.seq, listener.output?.(data.output, data.stage === "compile" ? "compile" : type));
        return;
      case "screen":
        program.seq = data.seq;
        this.used(program, data.seq, listener.screen?.(data.output));
        return;
      case "lost":
        program.seq = data.seq;
        listener.lost?.(data.lost);
        return;
      case "video":
        listener.video?.(data.output);
        return;
      case "keylisten":
        listener.keylisten?.(data.key ?? data.output);
        return;
      case "resized":
        listener.resized?.(data.rows, data.cols);
        return;
      case "holder":
        program.holder = data.holder;
        if (data.holder) {
          program.next = data.input + 1;
          this.flush(program);
        }
        break;
      case "viewers":
        program.viewers = data.viewers;
        break;
      case "detached":
        if (program.state === "running") {
          program.state = "failed";
          this.programs.delete(program.id);
          listener.failed?.("");
        }
        break;
      case "stopped":
        program.state = "stopped";
        program.inputs = [];
        this.programs.delete(program.id);
        listener.stopped?.(data);
        break;
      default:
        return;
    }
    listener.changed?.();
  }

  /**
   * @param {Program} program
   * @param {number | undefined} seq Of kept programs.
   * @param {void | Promise<void>} use
   */
  used(program, seq, use) {
    if (seq === undefined) return;
    if (use instanceof Promise) use.then(() => program.use(seq));
    else program.use(seq);
  }

  /** @param {Program} program */
  ready(program) {
    if (program.state !== "running") return;
    if (program.stopping !== null) {
      program.send("stop", program.stopping ? { signal: program.stopping } : undefined);
      program.stopping = null;
    }
    if (program.rows && program.mode === "use") program.resize(program.rows, program.cols);
    this.flush(program);
  }
}
