import type { GradientHistogram, StartEvent, TrainEvent } from '../../train/events.js';
import { bytes, double, type Field, float, integer, message, packedDoubles } from './protobuf.js';

// Messages and field numbers are those of tensorflow/core/util/event.proto, framework/summary.proto and tensor.proto.

/** The field of SourceMetadata, which names the program that wrote a file. */
const WRITER = bytes(10, message(bytes(1, 'kotodama')));

/** What every event file begins with. */
export function fileVersion(time: number): Buffer {
  return message(double(1, time), bytes(3, 'brain.Event:2'), WRITER);
}

/** Whether an event file that begins with this event was written here. */
export function isOurs(first: Buffer): boolean {
  return first.includes(message(WRITER));
}

/** Makes TensorBoard forget what an earlier start of the run told about `step` and later ones. */
export function sessionStart(time: number, step: number): Buffer {
  const START = 1;
  return message(double(1, time), integer(2, step), bytes(7, message(integer(1, START))));
}

/** A training event for TensorBoard, or undefined when there is nothing to show. */
export function summaryEvent(time: number, event: TrainEvent): Buffer | undefined {
  const values = valuesOf(event);
  if (values.length === 0) return undefined;
  return message(double(1, time), integer(2, event.step), bytes(5, message(...values.map((value) => bytes(1, value)))));
}

/** The step of an event that was made here: its second field. */
export function stepOf(event: Uint8Array): number {
  let step = 0;
  if (event[9] !== 0x10) return step;
  let scale = 1;
  for (let index = 10; index < event.length; index++, scale *= 128) {
    const byte = event[index] as number;
    step += (byte & 0x7f) * scale;
    if (byte < 0x80) break;
  }
  return step;
}

function valuesOf(event: TrainEvent): Field[] {
  switch (event.type) {
    case 'start':
      return [text('configuration', configurationOf(event))];
    case 'step':
      return [
        scalar('loss/training', event.loss),
        scalar('optimizer/learning_rate', event.learningRate),
        scalar('optimizer/gradient_norm', event.gradNorm),
        scalar('speed/tokens_per_second', event.tokensPerSecond),
        scalar('speed/data_wait_share', event.dataWaitShare),
        scalar('speed/step_seconds', event.stepSeconds),
      ];
    case 'eval':
      return [scalar('loss/validation', event.loss), scalar('perplexity/validation', event.perplexity)];
    case 'sample':
      return [text('samples', event.prompt + event.text)];
    case 'gradients':
      return event.tensors.map(histogram);
    default:
      return [];
  }
}

function configurationOf({ configuration, device, parameters, precision }: StartEvent): string {
  return JSON.stringify({ device, parameters, precision, ...configuration }, undefined, 2);
}

function scalar(tag: string, value: number): Buffer {
  return message(bytes(1, tag), float(2, value));
}

/** The text plugin reads Markdown, in which only a block of code (four spaces) keeps its characters. */
function text(tag: string, content: string): Buffer {
  const DT_STRING = 7;
  const shape = bytes(2, bytes(2, integer(1, 1)));
  const tensor = message(integer(1, DT_STRING), shape, bytes(8, content.replaceAll(/^/gm, '    ')));
  return message(bytes(1, tag), bytes(8, tensor), bytes(9, bytes(1, bytes(1, 'text'))));
}

function histogram({ name, min, max, sum, sumOfSquares, counts }: GradientHistogram): Buffer {
  const total = counts.reduce((all, count) => all + count, 0);
  const limit = (index: number) =>
    index === counts.length - 1 ? max : min + ((index + 1) * (max - min)) / counts.length;
  // Equal values have one interval, whose limit must lie above them.
  const flat = !(max > min);
  const limits = flat
    ? [max + Math.max(Math.abs(max) * 1e-6, Number.MIN_VALUE)]
    : counts.map((_, index) => limit(index));
  const numbers = message(
    ...[min, max, total, sum, sumOfSquares].map((value, index) => double(index + 1, value)),
    packedDoubles(6, limits),
    packedDoubles(7, flat ? [total] : counts),
  );
  return message(bytes(1, `gradients/${name}`), bytes(5, numbers));
}
