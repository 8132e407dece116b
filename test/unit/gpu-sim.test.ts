import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import t from 'tap';
import { buildSimulator, simulatorDirectory } from '../gpu-sim/build.js';

t.setTimeout(300_000);

t.test('the simulator passes its own tests', async (t) => {
  await buildSimulator();
  const { status, stdout, stderr } = spawnSync(join(simulatorDirectory, 'sim_test'), [], { encoding: 'utf8' });
  const lines = stdout.split('\n');
  for (const line of lines.filter((line) => /^(ok|FAILED) /.test(line))) {
    t.ok(line.startsWith('ok '), line);
  }
  t.equal(status, 0, 'exit status', {
    output: `${lines.filter((line) => !line.startsWith('ok')).join('\n')}${stderr}`,
  });
});
