/** Numbers and times as people read them. */

/** 1234567 as `1.2M`, 32100 as `32.1k`; three digits are enough. */
export function count(value: number): string {
  const [digits, prefix] = scaled(value);
  return digits + prefix;
}

/** With a unit: 2.5e9 FLOP as `2.5 GFLOP`. */
export function quantity(value: number, unit: string): string {
  const [digits, prefix] = scaled(value);
  return `${digits} ${prefix}${unit}`;
}

/** Digits and the prefix of the power of 1000 that belongs to them. */
function scaled(value: number): [digits: string, prefix: string] {
  const prefixes = ['', 'k', 'M', 'G', 'T', 'P', 'E', 'Z'];
  let index = 0;
  let rest = value;
  while (Math.abs(rest) >= 999.5 && index < prefixes.length - 1) {
    rest /= 1000;
    index++;
  }
  return [index === 0 ? String(Math.round(rest * 10) / 10) : digits(rest), prefixes[index] as string];
}

/** Bytes with a binary unit: `6.1 GiB`. */
export function bytes(value: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let index = 0;
  let scaled = value;
  while (scaled >= 1023.5 && index < units.length - 1) {
    scaled /= 1024;
    index++;
  }
  return `${index === 0 ? scaled : digits(scaled)} ${units[index]}`;
}

/** Seconds as `42s`, `3m 05s`, `2h 07m`, `3d 04h`. */
export function duration(seconds: number): string {
  const two = (value: number) => String(value).padStart(2, '0');
  const total = Math.max(0, Math.round(seconds));
  if (total < 60) return `${total}s`;
  const minutes = Math.floor(total / 60);
  if (minutes < 60) return `${minutes}m ${two(total % 60)}s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 48) return `${hours}h ${two(minutes % 60)}m`;
  return `${Math.floor(hours / 24)}d ${two(hours % 24)}h`;
}

/** exp(loss): `12.34`, or `6.39e+72` where nobody reads the digits. */
export function perplexity(loss: number): string {
  const value = Math.exp(loss);
  return value < 1e6 ? value.toFixed(2) : value.toExponential(2);
}

/** A loss: `3.1416`, or `6.39e+72`. */
export function lossText(value: number): string {
  return Math.abs(value) < 1e6 ? value.toFixed(4) : value.toExponential(2);
}

/** A learning rate: `6.00e-4`. */
export function rate(value: number): string {
  return value.toExponential(2);
}

/** Three significant digits. */
function digits(value: number): string {
  return value >= 99.95 ? value.toFixed(0) : value.toFixed(1);
}
