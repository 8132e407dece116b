import { KotodamaError } from '../errors.js';
import { type NativeAddon, type NativeDevice, native } from '../native.js';
import { alternatives, describe } from '../validate.js';
import { callNative, callNativeSync } from './native-call.js';

/** A device that works here. */
export interface DeviceInfo extends NativeDevice {}

/** The devices that work on this machine; the CPU comes first. */
export async function listDevices(): Promise<DeviceInfo[]> {
  const listed = await callNative(() => native().devices());
  return listed.filter(({ problem }) => problem === null).map(({ problem: _, ...device }) => device);
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
  const listed = await callNative(() => addon.devices());
  const wished = listed.filter(({ device }) => (wish.includes(':') ? device === wish : device.startsWith('cuda')));
  const names = listed.filter(({ problem }) => problem === null).map(({ device }) => device);
  const found = wished.find(({ device }) => names.includes(device));
  if (found !== undefined) return found.device;
  if (wish === 'auto') return 'cpu';
  const reason = wished[0]?.problem ?? callNativeSync(() => addon.cudaProblem());
  const [problem, hint] = reason?.split('\n  hint: ') ?? [];
  const because = problem === undefined ? '' : ` (${problem})`;
  throw new KotodamaError('ERR_DEVICE', `device ${wish} cannot be used${because}`, {
    expected: alternatives(names),
    received: wish,
    ...(hint === undefined ? {} : { hint }),
  });
}
