import { KotodamaError } from '../errors.js';
import { type NativeAddon, type NativeDevice, native } from '../native.js';
import { alternatives, describe } from '../validate.js';
import { callNative, callNativeSync } from './native-call.js';

/** A device that works here. */
export interface DeviceInfo extends NativeDevice {}

/** The devices that work on this machine; the CPU comes first. */
export async function listDevices(): Promise<DeviceInfo[]> {
  const addon = native();
  const devices: DeviceInfo[] = [];
  for (const name of await callNative(() => addon.deviceNames())) {
    const { problem, ...device } = await callNative(() => addon.examineDevice(name));
    if (problem === null) devices.push(device);
  }
  return devices;
}

/** What {@link isDeviceName} takes, in words. */
export const DEVICE_NAMES = "'auto', 'cpu', 'cuda' or 'cuda:N'";

/** Whether a device can have this name; it need not be there. */
export function isDeviceName(name: unknown): name is string {
  return typeof name === 'string' && /^(auto|cpu|cuda(:\d+)?)$/.test(name);
}

/**
 * Turns `auto`, `cpu`, `cuda` or `cuda:N` into a device's name. `auto` is the first CUDA device that can be used, or else the
 * CPU.
 *
 * @throws KotodamaError `ERR_OPTIONS` for another word, `ERR_DEVICE` when the device is not there.
 */
export async function resolveDevice(addon: NativeAddon, wish: unknown): Promise<string> {
  if (!isDeviceName(wish)) {
    throw new KotodamaError('ERR_OPTIONS', 'device', { expected: DEVICE_NAMES, received: describe(wish) });
  }
  if (wish === 'cpu') return wish;
  const names = await callNative(() => addon.deviceNames());
  const problems: string[] = [];
  // Others, which may be another program's, are left alone.
  const examined = names.filter((name) => (wish.includes(':') ? name === wish : name.startsWith('cuda')));
  for (const name of examined) {
    const { problem } = await callNative(() => addon.examineDevice(name));
    if (problem === null) return name;
    problems.push(problem);
  }
  if (wish === 'auto') return 'cpu';
  const others = names.filter((name) => !examined.includes(name));
  const reason = problems[0] ?? callNativeSync(() => addon.cudaProblem());
  const [problem, hint] = reason?.split('\n  hint: ') ?? [];
  const because = problem === undefined ? '' : ` (${problem})`;
  throw new KotodamaError('ERR_DEVICE', `device ${wish} cannot be used${because}`, {
    expected: alternatives(others),
    received: wish,
    ...(hint === undefined ? {} : { hint }),
  });
}
