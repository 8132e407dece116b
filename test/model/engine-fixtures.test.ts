// The CPU engine against PyTorch, in fp32 and in bf16.
import t from 'tap';
import { fixtureNames } from './engine-helpers.js';
import { testBf16Fixture, testFixture } from './fixture-checks.js';

for (const name of fixtureNames) {
  testFixture(t, name, { device: 'cpu' });
  testBf16Fixture(t, name, { device: 'cpu' });
}
