import { randomBytes, timingSafeEqual } from 'node:crypto';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { KotodamaError, messageOf } from '../../errors.js';
import type { ControlCommand } from '../../train/control.js';
import type { LiveMessage } from '../page-data.js';
import { page } from '../report.js';
import { DASHBOARD_PORT, isOwnHost, isOwnOrigin } from './address.js';
import type { LiveRun } from './live-run.js';
import { prometheus } from './prometheus.js';

export interface DashboardOptions {
  /** 0: any free one [7788, or a free one when that is taken]. */
  port?: number | undefined;
  /** Address to listen on [127.0.0.1]. */
  host?: string | undefined;
  /** Takes what the page's buttons say; without it the page has none. May throw `ERR_OPTIONS`. */
  onCommand?: ((command: ControlCommand) => void) | undefined;
  /** The secret part of the address [the variable KOTODAMA_DASHBOARD_TOKEN, or a random one]. */
  token?: string | undefined;
}

/** Milliseconds between two messages to a page, and between two signs of life. */
const PUSH_EVERY = 250;
const ALIVE_EVERY = 15_000;

/** Bytes of a command: a long prompt, escaped. */
const MAX_COMMAND = 200_000;

/** Connections at once: whoever reaches the port could otherwise take all files that the training process may open. */
const MAX_CONNECTIONS = 100;

/** A page, and whether it is behind: one that reads slowly gets everything anew instead of an ever longer queue. */
interface Page {
  response: ServerResponse;
  behind: boolean;
}

/**
 * Serves runs in progress to browsers: the page at `url`, its events over Server-Sent Events (WHATWG HTML, section 9.2),
 * its commands, and `metrics` for Prometheus.
 */
export class Dashboard {
  /** The page's address, with the token that opens it. */
  readonly url: string;
  private readonly runs: LiveRun[] = [];
  private readonly pages = new Set<Page>();
  private readonly timers: NodeJS.Timeout[];

  private constructor(
    private readonly server: Server,
    private readonly token: string,
    private readonly options: DashboardOptions,
  ) {
    const { port } = server.address() as AddressInfo;
    const { host = '127.0.0.1' } = options;
    const shown = host === '0.0.0.0' || host === '::' ? '127.0.0.1' : host.includes(':') ? `[${host}]` : host;
    this.url = `http://${shown}:${port}/${token}/`;
    server.maxConnections = MAX_CONNECTIONS;
    // A connection that cannot be taken is its client's loss; without a listener it would end the training.
    server.on('error', () => {});
    server.on('request', (request, response) => this.answer(request, response));
    this.timers = [
      setInterval(() => this.push(), PUSH_EVERY).unref(),
      setInterval(() => this.sendAll(':\n\n'), ALIVE_EVERY).unref(),
    ];
  }

  /** @throws KotodamaError `ERR_IO` when the address cannot be listened on. */
  static async start(options: DashboardOptions = {}): Promise<Dashboard> {
    const token = options.token ?? (process.env.KOTODAMA_DASHBOARD_TOKEN || randomBytes(18).toString('base64url'));
    if (!/^[\w-]{8,}$/.test(token)) {
      throw new KotodamaError('ERR_OPTIONS', "the dashboard's token", {
        expected: 'at least 8 of the characters A-Z a-z 0-9 _ -',
        received: `${token.length} characters`,
      });
    }
    const { host = '127.0.0.1', port } = options;
    const server = createServer();
    try {
      await listen(server, port ?? DASHBOARD_PORT, host).catch((error: NodeJS.ErrnoException) => {
        if (port !== undefined || error.code !== 'EADDRINUSE') throw error;
        return listen(server, 0, host);
      });
    } catch (cause) {
      throw new KotodamaError('ERR_IO', `The dashboard cannot be served at ${host} (${messageOf(cause)})`, {
        hint: ['EADDRINUSE', 'EACCES'].includes((cause as NodeJS.ErrnoException).code ?? '')
          ? 'choose another port, or leave it out for a free one'
          : 'the host has to be an address of this machine, such as 127.0.0.1, or 0.0.0.0 for all of them',
        cause,
      });
    }
    return new Dashboard(server, token, options);
  }

  /** Shows a run. */
  add(run: LiveRun): void {
    this.runs.push(run);
    run.reset();
  }

  /** Tells the pages what is new, and closes them and the server. */
  async close(): Promise<void> {
    for (const timer of this.timers) clearInterval(timer);
    this.push();
    for (const { response } of this.pages) response.end();
    this.server.closeIdleConnections();
    await new Promise((resolve) => {
      this.server.close(resolve);
      // A page that does not read keeps its connection open.
      setTimeout(() => this.server.closeAllConnections(), 500).unref();
    });
  }

  private push(): void {
    for (const run of this.runs) {
      const news = run.take();
      if (news === undefined || this.pages.size === 0) continue;
      const { id, quietSeconds } = run;
      this.send(
        'events' in news ? { type: 'events', id, events: news.events, quietSeconds } : { type: 'run', ...news },
      );
    }
  }

  private send(message: LiveMessage): void {
    this.sendAll(`data: ${JSON.stringify(message)}\n\n`);
  }

  private sendAll(text: string): void {
    for (const page of this.pages) {
      if (page.response.writableNeedDrain) page.behind = true;
      if (!page.behind) page.response.write(text);
    }
  }

  private answer(request: IncomingMessage, response: ServerResponse): void {
    const { host: name, origin, 'sec-fetch-site': site } = request.headers;
    response.setHeader('Cache-Control', 'no-store');
    response.setHeader('X-Content-Type-Options', 'nosniff');
    response.setHeader('Referrer-Policy', 'no-referrer');
    response.setHeader('Cross-Origin-Resource-Policy', 'same-origin');
    const isOwn = isOwnHost(name, this.options.host ?? '127.0.0.1');
    const [, token = '', path, rest] = (request.url ?? '').replace(/\?.*/, '').split('/');
    const opened = isOwn && rest === undefined && this.isToken(token);
    // Following a link from another site to the page is no attack; reading or steering from there is one.
    // What HEAD asks for is answered as to GET, without the body.
    const isRead = request.method === 'GET' || request.method === 'HEAD';
    const isPage = isRead && (path === '' || path === undefined);
    const isVisit = isPage && origin === undefined;
    if (!opened || !(isVisit || isOwnOrigin(origin, name, typeof site === 'string' ? site : undefined))) {
      const more = isOwn
        ? ''
        : ' By this name it is not open: use the IP address, or give the name to --dashboard-host.';
      reply(response, 403, `Open the whole address that kotodama printed, with its token.${more}\n`);
    } else if (isPage && path === undefined) {
      response.setHeader('Location', `/${token}/`);
      reply(response, 308, 'The page is behind one more slash.\n');
    } else if (isPage) this.showPage(response);
    else if (request.method === 'GET' && path === 'events') this.follow(response);
    else if (isRead && path === 'metrics') {
      response.setHeader('Content-Type', 'text/plain; version=0.0.4; charset=utf-8');
      response.end(prometheus(this.runs));
    } else if (request.method === 'POST' && path === 'control') this.command(request, response);
    else reply(response, 404, 'There is nothing here.\n');
  }

  private isToken(given: string): boolean {
    const [a, b] = [Buffer.from(given), Buffer.from(this.token)];
    return a.length === b.length && timingSafeEqual(a, b);
  }

  private showPage(response: ServerResponse): void {
    response.setHeader('Content-Type', 'text/html; charset=utf-8');
    response.setHeader('Content-Security-Policy', "frame-ancestors 'none'");
    // The runs come with the first event.
    const data = { live: true, control: this.options.onCommand !== undefined, runs: [] };
    response.end(page('kotodama', 'This page needs JavaScript; metrics.jsonl has the numbers.', data));
  }

  private follow(response: ServerResponse): void {
    response.writeHead(200, { 'Content-Type': 'text/event-stream; charset=utf-8' });
    const page: Page = { response, behind: false };
    const catchUp = () => {
      page.behind = false;
      const runs = this.runs.map((run) => run.whole());
      const message: LiveMessage = { type: 'all', control: this.options.onCommand !== undefined, runs };
      response.write(`data: ${JSON.stringify(message)}\n\n`);
    };
    // Events that the others have not seen yet are in what this page gets as a whole.
    this.push();
    this.pages.add(page);
    catchUp();
    response.on('drain', () => {
      if (!page.behind) return;
      this.push();
      catchUp();
    });
    response.on('close', () => this.pages.delete(page));
  }

  private async command(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { onCommand } = this.options;
    const type = request.headers['content-type'];
    // A form of another site cannot send this type without being asked for leave first (WHATWG Fetch, CORS protocol).
    if (onCommand === undefined) reply(response, 404, 'This dashboard only watches.\n');
    else if (type !== 'application/json') reply(response, 415, 'Send JSON.\n');
    else {
      try {
        onCommand(JSON.parse(await bodyOf(request)) as ControlCommand);
        response.writeHead(204).end();
      } catch (error) {
        reply(response, 400, `${messageOf(error)}\n`);
      }
    }
  }
}

/** @throws Error when it is longer than any command; it is read to its end then, so that the answer arrives. */
async function bodyOf(request: IncomingMessage): Promise<string> {
  const parts: Buffer[] = [];
  let length = 0;
  for await (const part of request as AsyncIterable<Buffer>) {
    length += part.length;
    if (length <= MAX_COMMAND) parts.push(part);
  }
  if (length > MAX_COMMAND) throw new Error(`a command has at most ${MAX_COMMAND} bytes`);
  return Buffer.concat(parts).toString();
}

function listen(server: Server, port: number, host: string): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port, host, () => {
      server.off('error', reject);
      resolve();
    });
  });
}

function reply(response: ServerResponse, status: number, text: string): void {
  response.writeHead(status, { 'Content-Type': 'text/plain; charset=utf-8' }).end(text);
}
