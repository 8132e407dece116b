// A whole `kotodama train` whose folder cannot be written, from the beginning or for a while.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { buildShim, FailingDisk } from '../failing-disk/disk.js';
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
    let state: 'well' | 'broken' | 'healed' = 'well';
    const { code, stdout, stderr } = await kotodama(tinyTraining(out, flags), {
      cwd,
      env: disk.env,
      onOutput: (text) => {
        if (state === 'well' && text.includes('step-00000004')) {
          state = 'broken';
          disk.arm(1, 'forever', 'EROFS');
        } else if (state === 'broken' && text.includes('"warning"') && text.includes('"step":24,')) {
          state = 'healed';
          disk.arm(0);
        }
      },
    });
    t.equal(code, 0, stderr);
    t.equal(state, 'healed');
    const events = parseEvents(stdout);
    const warnings = events.filter((event) => event.type === 'warning');
    t.ok(warnings.length > 0);
    for (const warning of warnings) t.match(warning, { code: 'ERR_IO', message: /read-only|EROFS/ });
    t.match(warnings.map(({ message }) => message).join('\n'), /checkpoint of step \d+ could not be saved/);
    t.same(
      events.flatMap((event) => (event.type === 'step' ? event.step : [])),
      Array.from({ length: 40 }, (_, index) => index + 1),
    );
    t.same(essence(readEvents(out)), essence(events), 'nothing is missing in metrics.jsonl');
    t.ok(readdirSync(join(out, 'checkpoints')).includes('step-00000040'));
    t.match(readFileSync(join(out, 'report.html'), 'utf8'), /<html/);
  },
);
