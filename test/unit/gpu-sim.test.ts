import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { buildSimulator, simulatorDirectory } from '../gpu-sim/build.js';

function simTest(group?: string, env: Record<string, string> = {}) {
  const program = join(simulatorDirectory, 'sim_test');
  return spawnSync(program, group ? [group] : [], { encoding: 'utf8', env: { ...process.env, ...env } });
}

t.before(() => buildSimulator());

t.test('the simulator passes its own tests', async (t) => {
  const { status, stdout, stderr } = simTest();
  const lines = stdout.split('\n');
  for (const line of lines.filter((line) => /^(ok|FAILED) /.test(line))) {
    t.ok(line.startsWith('ok '), line);
  }
  t.equal(status, 0, 'exit status', {
    output: `${lines.filter((line) => !line.startsWith('ok')).join('\n')}${stderr}`,
  });
});

t.test('settings from the environment', async (t) => {
  const file = join(t.testdir(), 'counters.json');
  t.equal(simTest('matrix', { KOTODAMA_SIM_COUNTERS: file }).status, 0, 'counters are written');
  const { kernels } = JSON.parse(readFileSync(file, 'utf8'));
  t.match(kernels.k, { launches: Number, instructions: Number, by_kind: { ldmatrix: Number } });
  t.ok(kernels.k.shared_conflicts > 0, 'with the conflicts of the last case');
  t.not(simTest('checks', { KOTODAMA_SIM_CHECKS: 'none' }).status, 0, 'without checks, broken programs pass unseen');
  t.equal(simTest('integer', { KOTODAMA_SIM_CHECKS: 'none' }).status, 0, 'and right ones still run');
  t.equal(simTest('reading', { KOTODAMA_SIM_CHECKS: 'none' }).status, 0, 'kernels are read when they are asked for');
  t.equal(simTest('async', { KOTODAMA_SIM_CHECKS: 'none' }).status, 0, 'cp.async without its wait finds the old bytes');
  t.not(simTest('integer', { KOTODAMA_SIM_DRIVER_VERSION: '11000' }).status, 0, 'PTX is too new for an old driver');
  t.not(simTest('integer', { KOTODAMA_SIM_FAIL_LAUNCH: '2' }).status, 0, 'a launch that is to fail does');
  for (const capability of ['8.6', '8.9', '9.0', '10.0', '12.0'])
    t.equal(simTest('capability', { KOTODAMA_SIM_CAPABILITY: capability }).status, 0, capability);
  for (const capability of ['eight', '8.0xyz', '8.1'])
    t.match(simTest('integer', { KOTODAMA_SIM_CAPABILITY: capability }).stdout, /cuInit failed/);
  t.match(simTest('integer', { KOTODAMA_SIM_CHECKS: 'some' }).stdout, /cuInit failed/);
});
