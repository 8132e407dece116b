import { readFileSync, writeFileSync } from 'node:fs';

/** A call of the driver that the simulator wrote down (KOTODAMA_SIM_TRACE). */
export interface Call {
  name: string;
  stream: string | undefined;
  event: string | undefined;
  bytes: number;
}

/** What a program calls from here on is all that {@link readTrace} gives. */
export function clearTrace(file: string): void {
  writeFileSync(file, '');
}

/** The calls since, in their order. */
export function readTrace(file: string): Call[] {
  const lines = readFileSync(file, 'utf8').split('\n').filter(Boolean);
  return lines.map((line) => {
    const [, name, stream, event, bytes] = /^(\w+)(?: (stream\d+))?(?: (event\d+))?(?: (\d+) bytes)?$/.exec(line)!;
    return { name: name!, stream, event, bytes: Number(bytes ?? 0) };
  });
}
