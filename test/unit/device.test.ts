import t from 'tap';
import { resolveDevice } from '../../dist/model/device.js';
import type { NativeAddon } from '../../dist/native.js';

/** A machine with these devices, each with its problem; notes which ones are examined. */
function machine(devices: Record<string, string | null>) {
  const examined: string[] = [];
  const addon: Partial<NativeAddon> = {
    deviceNames: async () => Object.keys(devices),
    async examineDevice(device) {
      examined.push(device);
      return { device, name: '', detail: '', totalBytes: 0, freeBytes: 0, problem: devices[device] ?? null };
    },
    cudaProblem: () => null,
  };
  return { addon: addon as NativeAddon, examined };
}

t.test('the first CUDA device that can be used, or else the CPU', async (t) => {
  const { addon, examined } = machine({ cpu: null, 'cuda:0': 'it is full', 'cuda:1': null, 'cuda:2': null });
  t.equal(await resolveDevice(addon, 'auto'), 'cuda:1');
  t.equal(await resolveDevice(addon, 'cuda'), 'cuda:1');
  t.same(examined, ['cuda:0', 'cuda:1', 'cuda:0', 'cuda:1']);
  t.equal(await resolveDevice(machine({ cpu: null, 'cuda:0': 'it is full' }).addon, 'auto'), 'cpu');
});

t.test('a device that cannot be used says why, and others are offered without a look at them', async (t) => {
  const { addon, examined } = machine({ cpu: null, 'cuda:0': 'it is full\n  hint: empty it', 'cuda:1': null });
  await t.rejects(resolveDevice(addon, 'cuda:0'), {
    code: 'ERR_DEVICE',
    message: 'device cuda:0 cannot be used (it is full): expected cpu or cuda:1, received cuda:0\n  hint: empty it',
  });
  t.same(examined, ['cuda:0']);
  await t.rejects(resolveDevice(addon, 'cuda:7'), {
    message: 'device cuda:7 cannot be used: expected cpu, cuda:0 or cuda:1, received cuda:7',
  });
  t.same(examined, ['cuda:0']);
});
