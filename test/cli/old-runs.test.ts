// Runs of earlier releases, from committed folders that are never written again: they are continued as if nothing had
// happened, and their checkpoints are models.
import { cpSync, readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import t, { type Test } from 'tap';
import type { EvalEvent, TrainEvent } from '../../dist/train/events.js';
import { essence, kotodama, parseEvents, readEvents } from './program.js';

const CHECKPOINT = 'checkpoints/step-00000006';

/** Another processor, or a faster kernel, rounds otherwise; what was restored wrongly differs by far more. */
const TOLERANCE = 1e-4;

for (const version of ['run-v1']) {
  const fixture = resolve('test/cli/fixtures', version);
  const expected: { [run: string]: TrainEvent[] } = JSON.parse(readFileSync(join(fixture, 'expected.json'), 'utf8'));

  for (const [run, events] of Object.entries(expected)) {
    t.test(`${version}, ${run}: continued from step 6 to 12`, async (t) => {
      const cwd = t.testdir();
      cpSync(fixture, cwd, { recursive: true });
      const out = join('runs', run);
      const { code, stdout, stderr } = await kotodama(['train', '--json', '--resume', '--out', out], { cwd });
      t.equal(code, 0, stderr);
      const [start, ...rest] = parseEvents(stdout);
      t.match(start, { type: 'start', step: 6, resumedFrom: join(out, CHECKPOINT) });
      t.same(
        rest.filter((event) => event.type === 'warning' && !/was computed by/.test(event.message)),
        [],
        'nothing but another device',
      );
      const [found, wanted] = [readEvents(join(cwd, out)), events].map((list) => essence(list)) as Values[][];
      t.equal(found?.length, wanted?.length);
      for (const [index, event] of (wanted ?? []).entries()) checkEvent(t, found?.[index], event);
    });
  }

  t.test(`${version}: a checkpoint is a model`, async (t) => {
    const cwd = t.testdir();
    cpSync(fixture, cwd, { recursive: true });
    for (const [run, events] of Object.entries(expected)) {
      const model = join('runs', run, CHECKPOINT);
      const words = ['evaluate', '--model', model, '--data', 'valid.txt', '--device', 'cpu', '--json'];
      const { code, stdout, stderr } = await kotodama(words, { cwd });
      t.equal(code, 0, stderr);
      const evaluation = events.find((event): event is EvalEvent => event.type === 'eval' && event.step === 6);
      const { loss, tokens } = JSON.parse(stdout);
      t.equal(tokens, evaluation?.tokens);
      t.ok(Math.abs(loss - (evaluation?.loss ?? 0)) < TOLERANCE, `${loss}`);
    }
  });
}

type Values = { [key: string]: unknown };

/** Texts and counts are the same, numbers that were computed nearly so. */
function checkEvent(t: Test, found: Values = {}, wanted: Values): void {
  const name = `${wanted.type} ${wanted.step}`;
  t.same(Object.keys(found).sort(), Object.keys(wanted).sort(), name);
  for (const [key, value] of Object.entries(wanted)) {
    const close =
      typeof value === 'number' ? Math.abs((found[key] as number) - value) <= TOLERANCE * value : found[key] === value;
    t.ok(close, `${name}: ${key} ${found[key]}, recorded ${value}`);
  }
}
