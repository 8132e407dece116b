// A whole `kotodama train` whose folder cannot be written, from the beginning or for a while.
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { constants } from 'node:os';
import { join } from 'node:path';
import t from 'tap';
import { buildShim, FailingDisk, MODES } from '../failing-disk/disk.js';
import { essence, kotodama, parseEvents, readEvents, tinyTraining, workplace } from './program.js';

const shim = buildShim(t.testdir());

t.test('a folder that is read-only is told before any work', async (t) => {
  const cwd = workplace(t);
  const disk = new FailingDisk(shim, join(cwd, 'disk'));
  disk.arm(1, 'forever', 'EROFS');
  const out = join(disk.folder, 'run');
  // A folder without a tokenizer: whoever had begun to work would say so.
  const { code, stdout, stderr } = await kotodama(tinyTraining(out, { tokenizer: cwd }), { cwd, env: disk.env });
  t.equal(code, 1);
  t.equal(stdout, '');
  t.match(stderr, /^error ERR_IO: .*\/run cannot be used as a run's folder \(EROFS.*\n {2}hint: .*read-only/);
  t.notMatch(stderr, /^ +at /m);
  t.same(readdirSync(disk.folder), []);
});

t.test(
  'a folder that becomes unwritable in the middle: warnings, the run goes on, and all of it is there later',
  async (t) => {
    const cwd = workplace(t);
    const disk = new FailingDisk(shim, join(cwd, 'disk'));
    const out = join(disk.folder, 'run');
    const flags = { 'max-steps': 40, 'save-every': 4, valid: 'valid.txt', 'eval-every': 10 };
    // In the process that trains: nothing happens between an event and what becomes of the disk then.
    writeFileSync(
      join(cwd, 'hook.mjs'),
      `import { writeFileSync } from 'node:fs';
      const arm = (...numbers) =>
        writeFileSync(${JSON.stringify(disk.control)}, new BigInt64Array(numbers), { flag: 'r+' });
      export default ({ type, step }) => {
        if (type === 'checkpoint' && step === 4) arm(1n, ${MODES.forever}n, ${constants.errno.EROFS}n, 0n);
        if (type === 'step' && step === 24) arm(0n, 0n, 0n, 0n);
      };`,
    );
    const words = [...tinyTraining(out, flags), '--on-event', 'hook.mjs'];
    const { code, stdout, stderr } = await kotodama(words, { cwd, env: disk.env });
    t.equal(code, 0, stderr);
    const events = parseEvents(stdout);
    const warnings = events.filter((event) => event.type === 'warning');
    t.ok(warnings.length > 0);
    for (const warning of warnings) t.match(warning, { code: 'ERR_IO', message: /read-only|EROFS/ });
    const messages = warnings.map(({ message }) => message);
    t.match(messages.join('\n'), /checkpoint of step \d+ could not be saved/);
    t.equal(messages.filter((message) => message.includes('could not be recorded')).length, 1, 'once while it lasts');
    t.same(
      events.flatMap((event) => (event.type === 'step' ? event.step : [])),
      Array.from({ length: 40 }, (_, index) => index + 1),
    );
    t.same(essence(readEvents(out)), essence(events), 'nothing is missing in metrics.jsonl');
    t.ok(readdirSync(join(out, 'checkpoints')).includes('step-00000040'));
    t.match(readFileSync(join(out, 'report.html'), 'utf8'), /<html/);
  },
);
