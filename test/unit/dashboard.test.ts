import { appendFileSync, mkdirSync, rmSync, symlinkSync, truncateSync, utimesSync, writeFileSync } from 'node:fs';
import * as files from 'node:fs/promises';
import { type IncomingMessage, type OutgoingHttpHeaders, request } from 'node:http';
import { connect } from 'node:net';
import { hostname } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { dashboard as dashboardCommand } from '../../dist/cli/dashboard.js';
import { isOwnHost, isOwnOrigin } from '../../dist/report/dashboard/address.js';
import { LiveRun } from '../../dist/report/dashboard/live-run.js';
import { RunTail } from '../../dist/report/dashboard/run-tail.js';
import { Dashboard, type DashboardOptions } from '../../dist/report/dashboard/server.js';
import { watchRuns } from '../../dist/report/dashboard/watch.js';
import { findRuns } from '../../dist/report/find-runs.js';
import type { LiveMessage } from '../../dist/report/page-data.js';
import type { ControlCommand } from '../../dist/train/control.js';
import { TrainerControl } from '../../dist/train/control.js';
import type { TrainEvent } from '../../dist/train/events.js';
import { checkpointEvent, endEvent, evalEvent, sampleEvent, startEvent, stepEvent } from './helpers/events.js';

// Whoever runs the tests may have a token of their own.
delete process.env.KOTODAMA_DASHBOARD_TOKEN;

type Test = { teardown(work: () => unknown): void };

async function serve(t: Test, options: DashboardOptions = {}): Promise<{ dashboard: Dashboard; run: LiveRun }> {
  const dashboard = await Dashboard.start({ port: 0, ...options });
  t.teardown(() => dashboard.close());
  const run = new LiveRun('a', 'runs/a');
  dashboard.add(run);
  return { dashboard, run };
}

interface Answer {
  status: number;
  text: string;
  headers: IncomingMessage['headers'];
}

/** Not `fetch`, which does not let Host be chosen. */
function ask(
  url: string,
  { method = 'GET', headers = {}, body = '' }: { method?: string; headers?: OutgoingHttpHeaders; body?: string } = {},
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const asked = request(url, { method, headers }, (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (part: string) => {
        text += part;
      });
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text, headers: response.headers }));
    });
    asked.on('error', reject);
    asked.end(body);
  });
}

/** An answer's text as it comes. The types of browsers, which the tests know too, cannot iterate over streams. */
function decoded(response: Response): AsyncIterable<string> {
  return response.body?.pipeThrough(new TextDecoderStream()) as unknown as AsyncIterable<string>;
}

/** The messages of an event stream, as they come. */
async function* messages(url: string, signal: AbortSignal): AsyncGenerator<LiveMessage> {
  const response = await fetch(`${url}events`, { signal });
  let text = '';
  for await (const part of decoded(response)) {
    text += part;
    for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
      const block = text.slice(0, end);
      text = text.slice(end + 2);
      if (block.startsWith('data: ')) yield JSON.parse(block.slice(6)) as LiveMessage;
    }
  }
}

t.test('names of this machine and addresses are its own; any other name may be an attack', async (t) => {
  const own = [
    '127.0.0.1:7788',
    'localhost',
    'LOCALHOST:80',
    '[::1]:7788',
    '192.168.1.5:7788',
    `${hostname()}:7788`,
    `${hostname().split('.')[0]}.local`,
  ];
  for (const host of [...own, 'gpu.example:7788']) t.ok(isOwnHost(host, 'gpu.example'), host);
  const others = [
    undefined,
    '',
    'evil.example',
    'localhost.evil.example:7788',
    '127.0.0.1.evil.example',
    'a:b:c',
    '127.0.0.1:80@evil',
  ];
  for (const host of others) t.notOk(isOwnHost(host, '127.0.0.1'), String(host));
  t.ok(isOwnOrigin(undefined, 'localhost:1', undefined));
  t.ok(isOwnOrigin('http://localhost:1', 'localhost:1', 'same-origin'));
  t.notOk(isOwnOrigin('http://localhost:2', 'localhost:1', undefined));
  t.notOk(isOwnOrigin('null', 'localhost:1', undefined));
  t.notOk(isOwnOrigin(undefined, 'localhost:1', 'cross-site'));
});

t.test('only whoever has the token, from this server itself, reads and steers', async (t) => {
  const commands: ControlCommand[] = [];
  const { dashboard } = await serve(t, { onCommand: (command) => commands.push(command) });
  const { host, port, origin } = new URL(dashboard.url);
  t.match(dashboard.url, /^http:\/\/127\.0\.0\.1:\d+\/[\w-]{24}\/$/);
  t.match(await ask(dashboard.url), { status: 200, headers: { 'content-security-policy': "frame-ancestors 'none'" } });
  t.match(await ask(dashboard.url, { method: 'HEAD' }), { status: 200, text: /^$/ });
  t.match(await ask(`${dashboard.url}metrics`, { method: 'HEAD' }), { status: 200, text: /^$/ });
  const fromElsewhere = { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'navigate' };
  t.match(await ask(dashboard.url, { headers: fromElsewhere }), { status: 200 }, 'a link may lead here');

  const json = { 'content-type': 'application/json' };
  const save = { method: 'POST', headers: json, body: '{"action":"save"}' };
  const refused: [string, string, Parameters<typeof ask>[1]][] = [
    ['no token', `${origin}/`, {}],
    ['no token, without the body', `${origin}/`, { method: 'HEAD' }],
    ['a wrong token', `${origin}/${'x'.repeat(24)}/`, {}],
    ['a part of the token', `${dashboard.url.slice(0, -2)}/`, {}],
    ['the token elsewhere', `${origin}/?${dashboard.url}`, {}],
    ['another name for this address', dashboard.url, { headers: { host: `evil.example:${port}` } }],
    ['events from another site', `${dashboard.url}events`, { headers: { origin: 'http://evil.example' } }],
    ['metrics from another site', `${dashboard.url}metrics`, { headers: { 'sec-fetch-site': 'cross-site' } }],
    [
      'a command from another site',
      `${dashboard.url}control`,
      { ...save, headers: { ...json, origin: 'http://evil.example' } },
    ],
    ['a command from a file', `${dashboard.url}control`, { ...save, headers: { ...json, origin: 'null' } }],
    ['a command without token', `${origin}/control`, save],
  ];
  for (const [what, url, how] of refused) {
    t.match(await ask(url, how), { status: 403, text: how?.method === 'HEAD' ? '' : /with its token/ }, what);
  }
  t.match(await ask(`${dashboard.url}control`, { ...save, headers: { 'content-type': 'text/plain' } }), {
    status: 415,
  });
  const byAnotherName = await ask(dashboard.url, { headers: { host: `evil.example:${port}` } });
  t.match(byAnotherName.text, /use the IP address/);
  t.match(await ask(`${dashboard.url}nothing`), { status: 404 });
  const bare = await ask(dashboard.url.slice(0, -1));
  t.match(bare, { status: 308, headers: { location: new URL(dashboard.url).pathname } });
  t.match(await ask(`${dashboard.url}control`), { status: 404 });
  t.match(await ask(`${dashboard.url}events/deeper`), { status: 403 });
  t.same(commands, []);
  t.match(await ask(`${dashboard.url}control`, { ...save, headers: { ...json, origin: `http://${host}` } }), {
    status: 204,
  });
  t.same(commands, [{ action: 'save' }]);
});

t.test('a command that is none is refused with its reason', async (t) => {
  const control = new TrainerControl();
  const { dashboard } = await serve(t, { onCommand: (command) => control.send(command) });
  const post = (body: string) =>
    ask(`${dashboard.url}control`, { method: 'POST', headers: { 'content-type': 'application/json' }, body });
  t.match(await post('{"action":"learningRate","learningRate":-1}'), { status: 400, text: /above 0/ });
  t.match(await post('{'), { status: 400 });
  t.match(await post(`{"action":"sample","prompt":"${'x'.repeat(300_000)}"}`), {
    status: 400,
    text: /at most 200000 bytes/,
  });
  const watching = await serve(t);
  const answer = await ask(`${watching.dashboard.url}control`, { method: 'POST', body: '{}' });
  t.match(answer, { status: 404, text: /only watches/ });
});

t.test('a page gets everything first, then what is new', async (t) => {
  const { dashboard, run } = await serve(t);
  run.add(startEvent());
  run.add(stepEvent(1));
  const stop = new AbortController();
  t.teardown(() => stop.abort());
  const stream = messages(dashboard.url, stop.signal);
  const first = (await stream.next()).value as LiveMessage & { type: 'all' };
  t.equal(first.type, 'all');
  t.equal(first.control, false);
  t.match(first.runs[0], {
    id: 'a',
    name: 'runs/a',
    state: { last: { step: 1 }, history: { columns: { step: [1] } } },
  });
  run.add(stepEvent(2));
  run.add({ type: 'gradients', step: 2, tensors: [] });
  run.add(evalEvent(2, 4));
  const news = (await stream.next()).value as LiveMessage & { type: 'events' };
  t.same(news, { type: 'events', id: 'a', events: [stepEvent(2), evalEvent(2, 4)], quietSeconds: news.quietSeconds });
  t.ok(news.quietSeconds >= 0 && news.quietSeconds < 60);
  run.reset();
  run.add(startEvent());
  const again = (await stream.next()).value as LiveMessage & { type: 'run' };
  t.equal(again.type, 'run');
  t.same(again.run.state.history.columns.step, []);
  const late = messages(dashboard.url, stop.signal);
  t.match((await late.next()).value, { type: 'all', runs: [{ state: { start: { step: 0 }, last: null } }] });
});

t.test('a page that does not read costs no memory, and catches up with everything', async (t) => {
  const { dashboard, run } = await serve(t);
  const { hostname: host, port, pathname } = new URL(dashboard.url);
  const socket = connect(Number(port), host);
  t.teardown(() => socket.destroy());
  socket.write(`GET ${pathname}events HTTP/1.1\r\nHost: ${host}:${port}\r\n\r\n`);
  await new Promise((resolve) => socket.once('readable', resolve));
  for (let step = 1; step <= 12; step++) {
    run.add(sampleEvent(step, `${step} `.padEnd(2_000_000, 'x')));
    await new Promise((resolve) => setTimeout(resolve, 270));
  }
  let [events, wholes, newest] = [0, 0, false];
  let before = '';
  await new Promise<void>((resolve) => {
    socket.setEncoding('latin1').on('data', (part: string) => {
      // Marks may lie across two parts; the overlap is shorter than any of them twice.
      const text = before + part;
      events += text.split('"type":"events"').length - before.split('"type":"events"').length;
      wholes += text.split('"type":"all"').length - before.split('"type":"all"').length;
      newest ||= wholes > 1 && text.includes('"text":"12 ');
      before = text.slice(-20);
      if (newest && text.endsWith('\n\n\r\n')) resolve();
    });
  });
  t.ok(events < 12, `${events} of 12 messages were queued`);
});

t.test('metrics for Prometheus', async (t) => {
  const { dashboard, run } = await serve(t);
  const other = new LiveRun('b', 'runs/"b\\\n');
  dashboard.add(other);
  run.add(startEvent());
  run.add(stepEvent(7, { loss: 3.25 }));
  run.add(evalEvent(7, 3.5));
  other.add(startEvent(0, { totalSteps: null }));
  other.add(endEvent(9));
  const { text, headers } = await ask(`${dashboard.url}metrics`);
  t.match(headers['content-type'], 'text/plain; version=0.0.4');
  t.ok(text.endsWith('\n'));
  const samples = new Map<string, number>();
  let type = '';
  for (const line of text.trimEnd().split('\n')) {
    const declared = /^# TYPE (\w+) (gauge|counter)$/.exec(line);
    if (declared !== null) type = declared[1];
    if (line.startsWith('#')) {
      t.match(line, /^# (HELP \w+ .+|TYPE \w+ (gauge|counter))$/);
      continue;
    }
    // The format's grammar: name, labels with escapes, value.
    const [, name, label, value] = /^(\w+)\{run="((?:[^"\\\n]|\\["\\n])*)"\} (\S+)$/.exec(line) ?? [];
    t.equal(name, type, line);
    samples.set(`${name} ${label}`, Number(value));
  }
  t.equal(samples.get('kotodama_step runs/a'), 7);
  t.equal(samples.get('kotodama_loss runs/a'), 3.25);
  t.equal(samples.get('kotodama_validation_loss runs/a'), 3.5);
  t.equal(samples.get('kotodama_steps_planned runs/a'), 200);
  t.equal(samples.get('kotodama_running runs/a'), 1);
  t.ok(Math.abs((samples.get('kotodama_last_event_time_seconds runs/a') ?? 0) - Date.now() / 1000) < 60);
  t.equal(samples.get('kotodama_running runs/\\"b\\\\\\n'), 0);
  t.notOk(samples.has('kotodama_steps_planned runs/\\"b\\\\\\n'));
});

t.test('addresses: a free port when the usual one is taken, an error when a chosen one is', async (t) => {
  const { dashboard } = await serve(t);
  const { port } = new URL(dashboard.url);
  await t.rejects(Dashboard.start({ port: Number(port) }), { code: 'ERR_IO', message: /EADDRINUSE[\s\S]*hint/ });
  // An address for documentation (RFC 5737), which no machine has.
  await t.rejects(Dashboard.start({ port: 0, host: '192.0.2.1' }), {
    code: 'ERR_IO',
    hint: /an address of this machine/,
  });
  const [first, second] = await Promise.all([Dashboard.start(), Dashboard.start()]);
  t.not(new URL(first.url).port, new URL(second.url).port);
  await Promise.all([first.close(), second.close()]);
  await t.rejects(Dashboard.start({ port: 0, token: 'short' }), { code: 'ERR_OPTIONS', message: /at least 8/ });
  const named = await Dashboard.start({ port: 0, token: 'of-my-own', host: '0.0.0.0' });
  t.match(named.url, /^http:\/\/127\.0\.0\.1:\d+\/of-my-own\/$/);
  await named.close();
});

const line = (event: TrainEvent) => `${JSON.stringify(event)}\n`;

t.test('a file that another process writes: whole lines, a resumption, damage', async (t) => {
  const folder = t.testdir();
  const path = join(folder, 'metrics.jsonl');
  const run = new LiveRun('a', 'a');
  const tail = new RunTail(folder, run);
  await tail.poll();
  t.equal(run.take(), undefined, 'no file yet');
  const text = line(startEvent()) + line(sampleEvent(1, '言霊')) + line(stepEvent(1));
  const bytes = Buffer.from(text);
  const cut = bytes.indexOf(Buffer.from('霊')) + 1;
  writeFileSync(path, bytes.subarray(0, cut));
  await tail.poll();
  t.equal(run.record.now.samples.length, 0, 'half a line, in the middle of a character');
  appendFileSync(path, bytes.subarray(cut));
  await tail.poll();
  t.equal(run.record.now.samples[0]?.text, '言霊');
  for (let step = 2; step <= 5; step++) appendFileSync(path, line(stepEvent(step)));
  await tail.poll();
  t.equal(run.record.now.last?.step, 5);

  const longAgo = Date.now() / 1000 - 7200;
  utimesSync(path, longAgo, longAgo);
  const late = new LiveRun('a', 'a');
  await new RunTail(folder, late).poll();
  t.ok(Math.abs((late.whole().quietSeconds ?? 0) - 7200) < 60, 'when it was written, not when it was read');

  // Resumed at step 3, and already further than before at the next look.
  truncateSync(path, bytes.length + 2 * line(stepEvent(2)).length);
  appendFileSync(path, line(startEvent(3)));
  for (let step = 4; step <= 9; step++) appendFileSync(path, line(stepEvent(step, { loss: 1 })));
  await tail.poll();
  t.same(run.record.history.columns.step, [1, 2, 3, 4, 5, 6, 7, 8, 9]);
  truncateSync(path, bytes.length);
  await tail.poll();
  t.same(run.record.history.columns.step, [1]);

  for (const damage of ['no JSON', 'null', '{"type":"step","step":2}']) {
    truncateSync(path, bytes.length);
    appendFileSync(path, `${damage}\n`);
    await tail.poll();
    t.same(run.record.history.columns.step, [1], 'what is before the damage');
    appendFileSync(path, line(stepEvent(2)));
    await tail.poll();
    t.same(run.record.history.columns.step, [1, 2], 'and what is behind it');
    t.match(run.whole(), { name: 'a' }, 'a page can be told of it');
  }
});

t.test('a file that has not changed is not read again', async (t) => {
  let opened = 0;
  const counted: typeof files.open = (...given) => {
    opened++;
    return files.open(...given);
  };
  const mocked = await t.mockImport<typeof import('../../dist/report/dashboard/run-tail.js')>(
    '../../dist/report/dashboard/run-tail.js',
    { 'node:fs/promises': { ...files, open: counted } },
  );
  const folder = t.testdir({ 'metrics.jsonl': line(startEvent()) + line(stepEvent(1)) });
  const run = new LiveRun('a', 'a');
  const tail = new mocked.RunTail(folder, run);
  for (let look = 0; look < 3; look++) await tail.poll();
  t.equal(opened, 1);
  appendFileSync(join(folder, 'metrics.jsonl'), line(stepEvent(2)));
  await tail.poll();
  t.equal(opened, 2);
  t.equal(run.record.now.last?.step, 2);
});

t.test('a run that cannot be read stops no other, and is tried again', async (t) => {
  const text = line(startEvent()) + line(stepEvent(1));
  const folder = t.testdir({ a: { 'metrics.jsonl': text }, b: { 'metrics.jsonl': text } });
  const { dashboard } = await serve(t);
  const stop = new AbortController();
  const told: [string, unknown][] = [];
  const watching = watchRuns(dashboard, [folder], stop.signal, (path, error) => told.push([path, error]));
  /** Waits until a page would show these steps. */
  const shown = async (a: number, b: number) => {
    for (;;) {
      const { text } = await ask(`${dashboard.url}metrics`);
      const step = (name: string) => new RegExp(`^kotodama_step.*/${name}"} (\\d+)$`, 'm').exec(text)?.[1];
      if (step('a') === String(a) && step('b') === String(b)) return;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  };
  await shown(1, 1);
  const path = join(folder, 'a', 'metrics.jsonl');
  rmSync(path);
  mkdirSync(path);
  appendFileSync(join(folder, 'b', 'metrics.jsonl'), line(stepEvent(2)));
  await shown(1, 2);
  appendFileSync(join(folder, 'b', 'metrics.jsonl'), line(stepEvent(3)));
  await shown(1, 3);
  t.match(told, [[join(folder, 'a'), { code: 'EISDIR' }]], 'once');
  rmSync(path, { recursive: true });
  writeFileSync(path, text + line(stepEvent(2)));
  await shown(2, 3);
  stop.abort();
  await watching;
});

t.test('kotodama dashboard leaves no server behind when it fails', async (t) => {
  const write = process.stdout.write;
  t.teardown(() => {
    process.stdout.write = write;
  });
  let url = '';
  process.stdout.write = ((text: string, ...more: never[]) => {
    if (!text.startsWith('http')) return write.call(process.stdout, text, ...more);
    url = text.trim();
    throw new Error('no more room');
  }) as typeof write;
  await t.rejects(dashboardCommand.run([t.testdir(), '--port', '0']), { message: 'no more room' });
  await t.rejects(ask(url), { code: 'ECONNREFUSED' });
});

t.test('runs behind symbolic links are found, each once', async (t) => {
  const run = () => ({ 'metrics.jsonl': line(startEvent()) });
  const folder = t.testdir({ elsewhere: { c: run() }, runs: { a: run(), deep: { b: run() }, 'file.txt': '' } });
  const runs = join(folder, 'runs');
  symlinkSync(join(folder, 'elsewhere'), join(runs, 'linked'));
  symlinkSync('a', join(runs, 'Another-name'));
  symlinkSync('..', join(runs, 'deep', 'loop'));
  symlinkSync('file.txt', join(runs, 'file'));
  symlinkSync('nowhere', join(runs, 'broken'));
  t.same(
    await findRuns([runs]),
    ['a', 'deep/b', 'linked/c'].map((name) => join(runs, name)),
  );
  const both = [join(runs, 'Another-name'), join(runs, 'a')];
  t.same(await findRuns(both), both.slice(0, 1), 'the one that was given first');
});

t.test('connections that say nothing are limited in number', async (t) => {
  const { dashboard } = await serve(t);
  const { hostname: host, port } = new URL(dashboard.url);
  const sockets = Array.from({ length: 120 }, () => connect(Number(port), host));
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
  });
  let closed = 0;
  await new Promise<void>((resolve) => {
    for (const socket of sockets) {
      socket.on('error', () => {});
      socket.on('close', () => {
        if (++closed === 20) resolve();
      });
    }
  });
  for (const socket of sockets) socket.destroy();
  await new Promise((resolve) => setTimeout(resolve, 100));
  t.match(await ask(dashboard.url), { status: 200 });
});

t.test('a folder of runs is watched, also for runs that begin later', async (t) => {
  const folder = t.testdir({ first: { 'metrics.jsonl': line(startEvent()) + line(stepEvent(1)) }, empty: {} });
  const { dashboard } = await serve(t);
  const stop = new AbortController();
  const watching = watchRuns(dashboard, [folder], stop.signal);
  const states = new Map<string, number | undefined>();
  const reader = new AbortController();
  for await (const message of messages(dashboard.url, reader.signal)) {
    if (message.type === 'run') states.set(message.run.id, message.run.state.last?.step);
    if (message.type === 'events') states.set(message.id, (message.events.at(-1) as { step: number }).step);
    if (message.type === 'all') {
      for (const { id, state } of message.runs) states.set(id, state.last?.step);
      mkdirSync(join(folder, 'group', 'second'), { recursive: true });
      writeFileSync(join(folder, 'group', 'second', 'metrics.jsonl'), line(startEvent()) + line(stepEvent(5)));
      appendFileSync(join(folder, 'first', 'metrics.jsonl'), line(checkpointEvent(2)) + line(stepEvent(2)));
    }
    if (states.get(join(folder, 'first')) === 2 && states.get(join(folder, 'group', 'second')) === 5) break;
  }
  stop.abort();
  await watching;
  t.equal(states.size, 3, 'the two, and the one that the test brought along');
});
