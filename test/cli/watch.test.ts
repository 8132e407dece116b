import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import type { LiveMessage } from '../../dist/report/page-data.js';
import type { ControlEvent, StepEvent, TrainEvent } from '../../dist/train/events.js';
import { kotodama, parseEvents, type RunOptions, readEvents, tinyTraining, workplace } from './program.js';

const EXAMPLES = fileURLToPath(new URL('../../examples/', import.meta.url));

const post = (url: string, command: object) =>
  fetch(`${url}control`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(command),
  });

t.test('train --dashboard: a run is steered from outside, and all of it is recorded', async (t) => {
  const cwd = workplace(t);
  let url = '';
  const answers: number[] = [];
  const send = async (...commands: object[]) => {
    for (const command of commands) answers.push((await post(url, command)).status);
  };
  let metrics = '';
  const steer = async () => {
    await send({ action: 'pause' });
    await Promise.all([
      send({ action: 'evaluate' }, { action: 'sample', prompt: 'Everyone' }, { action: 'save' }),
      send({ action: 'learningRate', learningRate: 0.002 }, { action: 'resume' }, { action: 'nonsense' }),
      fetch(`${url}metrics`).then(async (response) => {
        metrics = await response.text();
      }),
    ]);
  };
  /** Whether the run has done all that, and one step more. */
  const isSteered = (stdout: string) => {
    const parts = stdout.split('"type":"control"');
    return (
      parts.length === 7 &&
      parts[6].includes('"type":"step"') &&
      ['eval', 'sample', 'checkpoint'].every((type) => stdout.includes(`"type":"${type}"`))
    );
  };
  let steering: Promise<void> | undefined;
  let stopping: Promise<void> | undefined;
  const flags = {
    'max-steps': 1_000_000,
    epochs: 1_000_000,
    schedule: 'constant',
    valid: 'valid.txt',
    'eval-every': 0,
  };
  const run = await kotodama([...tinyTraining('runs/a', flags), '--dashboard', '0', '--tensorboard'], {
    cwd,
    onError: (stderr) => {
      url ||= /dashboard: (\S+)/.exec(stderr)?.[1] ?? '';
    },
    onOutput: (stdout) => {
      if (url === '' || !stdout.includes('"type":"step"')) return;
      steering ??= steer();
      if (stopping === undefined && isSteered(stdout)) stopping = steering.then(() => send({ action: 'stop' }));
    },
  });
  await stopping;
  t.equal(run.code, 130, run.stderr);
  const events = parseEvents(run.stdout);
  t.same(readEvents(join(cwd, 'runs/a')), events);
  const asked = events.filter((event): event is ControlEvent => event.type === 'control');
  t.same(asked.map(({ action }) => action).sort(), [
    ...['evaluate', 'learningRate', 'pause', 'resume', 'sample', 'save', 'stop'],
  ]);
  t.ok(events.some((event) => event.type === 'eval'));
  t.ok(events.some((event) => event.type === 'sample' && event.prompt === 'Everyone'));
  t.ok(events.filter(({ type }) => type === 'checkpoint').length >= 2);
  const steps = events.filter((event): event is StepEvent => event.type === 'step');
  t.equal(steps[0].learningRate, 0.01 / 201, 'warming up');
  const last = steps.at(-1) as StepEvent;
  const expected = 0.002 * Math.min(1, last.step / 201);
  t.ok(Math.abs(last.learningRate - expected) < 1e-12, `the new peak: ${last.learningRate} at step ${last.step}`);
  t.match(events.at(-1), { type: 'end', reason: 'aborted' });
  t.same([...answers].sort(), [204, 204, 204, 204, 204, 204, 204, 400]);
  t.match(metrics, /^kotodama_running\{run="runs\/a"\} 1$/m);
  t.equal(readdirSync(join(cwd, 'runs/a/tensorboard')).length, 1);
  const { options } = JSON.parse(readFileSync(join(cwd, 'runs/a/run.json'), 'utf8'));
  t.match(options, { tensorboard: true });
  t.notOk('dashboard' in options || 'dashboardHost' in options || 'onEvent' in options);
});

t.test('report and dashboard of several runs', async (t) => {
  const cwd = workplace(t);
  for (const out of ['runs/a', 'runs/b']) {
    const { code, stderr } = await kotodama(tinyTraining(out, { 'max-steps': 3 }), { cwd });
    t.equal(code, 0, stderr);
  }
  const report = await kotodama(['report', 'runs/a', 'runs/b', '--out', 'both.html'], { cwd });
  t.match(report, { code: 0, stdout: 'both.html\n' });
  const html = readFileSync(join(cwd, 'both.html'), 'utf8');
  const { runs } = JSON.parse(/id="data">(.*)<\/script>/.exec(html)?.[1] ?? '');
  t.same(
    runs.map(({ name }: { name: string }) => name),
    ['runs/a', 'runs/b'],
  );
  t.same(runs[1].state.history.columns.step, [1, 2, 3]);
  t.match(
    await kotodama(['report', 'runs'], { cwd }),
    { code: 0, stdout: 'report.html\n', stderr: /^$/ },
    'the folder above them',
  );
  const typo = await kotodama(['report', 'runs/a', 'runs/typo', 'nowhere'], { cwd });
  t.match(typo, { code: 0, stdout: 'report.html\n', stderr: 'warning: there is no run in runs/typo, nowhere\n' });
  const metrics = join(cwd, 'runs/b/metrics.jsonl');
  const lines = readFileSync(metrics, 'utf8').split('\n');
  writeFileSync(metrics, lines.with(2, lines[2]?.slice(0, 30) ?? '').join('\n'));
  const told = /^warning: runs\/b\/metrics\.jsonl, line 3: no event of a run, left out\n$/;
  t.match(await kotodama(['report', 'runs'], { cwd }), { code: 0, stderr: told });
  const compared = await kotodama(['compare', 'runs/a', 'runs/b'], { cwd });
  t.match(compared, { code: 0, stdout: /\nsteps +3 +3\n/, stderr: told });
  writeFileSync(metrics, lines.join('\n'));
  t.equal((await kotodama(['report', 'runs'], { cwd })).code, 0, 'again');
  const data = await kotodama(['report', 'runs', '--out', 'train.txt'], { cwd });
  t.match(data.stderr, /^error ERR_OPTIONS: --out train.txt would be replaced/);
  const none = await kotodama(['report', 'nowhere'], { cwd });
  t.match(none, { code: 2, stderr: /no run in nowhere[\s\S]*metrics\.jsonl/ });
  t.match(await kotodama(['report'], { cwd }), { code: 2, stderr: /--runs: expected DIR\.\.\., received nothing/ });

  let page: Promise<[string, LiveMessage]> | undefined;
  const watched = await kotodama(['dashboard', 'runs', '--port', '0'], {
    cwd,
    onOutput: (stdout, child) => {
      if (page !== undefined || !stdout.endsWith('/\n')) return;
      page = look(stdout.trim()).finally(() => child.kill('SIGINT'));
    },
  });
  t.match(watched, { code: 0, stderr: /^runs\/a, runs\/b; Ctrl-C/ });
  const [text, message] = (await page) ?? [];
  t.match(text, '"control":false');
  t.match(message, { type: 'all', control: false, runs: [{ state: { last: { step: 3 } } }, {}] });
});

/** An answer's text as it comes. The types of browsers, which the tests know too, cannot iterate over streams. */
function decoded(response: Response): AsyncIterable<string> {
  return response.body?.pipeThrough(new TextDecoderStream()) as unknown as AsyncIterable<string>;
}

/** The page, and the first message that knows all runs. */
async function look(url: string): Promise<[string, LiveMessage]> {
  const html = await (await fetch(url)).text();
  for (;;) {
    const stop = new AbortController();
    const response = await fetch(`${url}events`, { signal: stop.signal });
    let text = '';
    for await (const part of decoded(response)) {
      text += part;
      if (text.includes('\n\n')) break;
    }
    stop.abort();
    const message = JSON.parse(text.slice(6, text.indexOf('\n\n'))) as LiveMessage & { type: 'all' };
    if (message.runs.length === 2 && message.runs.every(({ state }) => state.last !== null)) return [html, message];
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

t.test('--on-event: the example posts everything, in order, also what was refused once', async (t) => {
  const cwd = workplace(t);
  const received: TrainEvent[] = [];
  const keys = new Set<string | undefined>();
  let requests = 0;
  const server = createServer(async (request, response) => {
    let text = '';
    for await (const part of request) text += part;
    keys.add(request.headers.authorization);
    if (++requests === 1) return response.writeHead(503).end();
    received.push(...JSON.parse(text).events);
    response.end();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  t.teardown(() => server.close());
  const env = {
    METRICS_URL: `http://127.0.0.1:${(server.address() as AddressInfo).port}/`,
    METRICS_KEY: 'secret',
    METRICS_EVERY: '50',
  };
  const hook = join(EXAMPLES, 'post-events.mjs');
  const run = await kotodama([...tinyTraining('runs/a', { 'max-steps': 200, epochs: 100 }), '--on-event', hook], {
    cwd,
    env,
  });
  t.equal(run.code, 0, run.stderr);
  const events = parseEvents(run.stdout);
  const warnings = events.filter(({ type }) => type === 'warning');
  t.match(warnings, [{ code: 'ERR_IO', message: /answered 503/ }]);
  t.same(
    received,
    events.filter(({ type }) => type !== 'warning'),
  );
  t.same([...keys], ['Bearer secret']);
});

t.test('a hook that never finishes keeps no run from its end', async (t) => {
  const cwd = workplace(t);
  writeFileSync(join(cwd, 'silent.mjs'), 'export default () => new Promise(() => {});');
  writeFileSync(join(cwd, 'open.mjs'), 'setInterval(() => {}, 1000); export default () => new Promise(() => {});');
  const options: [string, RunOptions][] = [
    ['silent.mjs', { cwd }],
    // Once: what was written before comes again with what follows.
    ['open.mjs', { cwd, onOutput: (stdout, child) => /"type":"end"[^\n]*\n$/.test(stdout) && child.kill('SIGINT') }],
  ];
  for (const [file, how] of options) {
    const began = performance.now();
    const run = await kotodama([...tinyTraining(`runs/${file}`, { 'max-steps': 2 }), '--on-event', file], how);
    t.match(run, { code: 0, signal: null }, run.stderr);
    t.match(parseEvents(run.stdout).at(-1), { type: 'warning', message: /\(onEvent has not finished\)$/ });
    if (file === 'silent.mjs') t.ok(performance.now() - began > 9900, 'it is given some time');
  }
});

t.test('a hook that cannot be used is told before the run begins', async (t) => {
  const cwd = workplace(t);
  writeFileSync(join(cwd, 'none.mjs'), 'export const hook = 1;');
  writeFileSync(join(cwd, 'broken.mjs'), 'throw new Error("no key");');
  for (const [file, message] of [
    ['none.mjs', /expected a module whose default export is a function, received undefined/],
    ['broken.mjs', /could not be loaded \(no key\)/],
    ['missing.mjs', /--on-event: expected a module that exists, received missing\.mjs/],
  ] as const) {
    const run = await kotodama([...tinyTraining('runs/a', { 'max-steps': 2 }), '--on-event', file], { cwd });
    t.match(run, { code: 2, stderr: message });
  }
  t.notOk(existsSync(join(cwd, 'runs/a')));
});
