// A run whose log the disk takes a part of: the shell's `ulimit -f` refuses what makes a file longer.
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { evalEvent, startEvent, stepEvent } from './helpers/events.js';

/** Records steps with an evaluation after each, and prints what comes of it as JSON. */
const RECORD = `
  import { recorded } from './dist/report/record.js';
  const { out, events, failure, tensorboard } = JSON.parse(process.argv[1]);
  const result = { seen: [], hookClosed: false };
  async function* source() {
    yield* events;
    if (failure !== null) throw new Error(failure);
  }
  const onEvent = ({ type, step }) =>
    step < 50 || type !== 'eval'
      ? undefined
      : new Promise((resolve) => setTimeout(resolve, 20)).then(() => { result.hookClosed = true; });
  try {
    for await (const event of recorded(source(), out, { onEvent, tensorboard })) result.seen.push(event);
  } catch (error) {
    result.error = error.message;
  }
  console.log(JSON.stringify(result));
`;

function record(out: string, failure: string | null, tensorboard = false) {
  const events = [startEvent(0)].concat(
    Array.from({ length: 50 }, (_, index) => [stepEvent(index + 1), evalEvent(index + 1, 4)]).flat() as never[],
  );
  const words = [process.execPath, '--input-type=module', '-e', RECORD];
  const task = JSON.stringify({ out, events, failure, tensorboard });
  // What the test runner adds to each Node.js writes longer files.
  const limited = ['-c', 'unset NODE_OPTIONS; ulimit -f 8; exec "$@"', 'sh', ...words, task];
  const { status, signal, stdout, stderr } = spawnSync('sh', limited, { encoding: 'utf8' });
  t.equal(status, 0, `${signal} ${stderr}`);
  const { seen, error, hookClosed } = JSON.parse(stdout);
  const warnings: string[] = seen
    .filter(({ type }: { type: string }) => type === 'warning')
    .map(({ message }: { message: string }) => message);
  t.same(
    seen.filter(({ type }: { type: string }) => type !== 'warning'),
    events,
    'the run goes on',
  );
  t.ok(hookClosed, 'what comes after the log is closed, too');
  const kept = readFileSync(join(out, 'metrics.jsonl'), 'utf8').split('\n').slice(0, -1);
  t.same(
    kept.map((line) => JSON.parse(line)),
    events.slice(0, kept.length),
  );
  t.ok(kept.length > 1 && kept.length < events.length);
  return { warnings, error };
}

t.test('a log that the disk refuses: a warning when it begins and one at the end, no error', async (t) => {
  const { warnings, error } = record(t.testdir(), null);
  t.equal(error, undefined);
  t.match(warnings, [/^the run could not be recorded in .*EFBIG/, /^not all of the run is recorded in .*EFBIG/]);
  t.equal(warnings.length, 2, warnings.join('\n'));
});

t.test('event files for TensorBoard are told once, too', async (t) => {
  const { warnings } = record(t.testdir(), null, true);
  const begun = warnings.filter((message) => message.startsWith('the run could not be recorded'));
  t.ok(begun.length <= 2, warnings.join('\n'));
});

t.test('a run that fails says why, whatever its log does', async (t) => {
  t.equal(record(t.testdir(), 'the loss is NaN').error, 'the loss is NaN');
});
