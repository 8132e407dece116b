import { readFileSync } from 'node:fs';
import t from 'tap';
import { isAtLeast, nodeProblem } from '../../lib/version.js';

t.test('versions', async (t) => {
  for (const [version, least, expected] of [
    ['11.8.89', '11.8', true],
    ['11.8', '11.8.0', true],
    ['11.10', '11.8', true],
    ['12', '11.8', true],
    ['11.7.99', '11.8', false],
    ['9.9', '11.8', false],
  ] as const) {
    t.equal(isAtLeast(version, least), expected, `${version} >= ${least}`);
  }
});

t.test('the Node that package.json asks for', async (t) => {
  const { engines } = JSON.parse(readFileSync('package.json', 'utf8'));
  t.equal(engines.node, '^20.17.0 || >=22.9.0', 'what is tried below');
  for (const node of ['v20.17.0', 'v20.20.2', 'v22.9.0', 'v22.10.1', 'v24.0.0', process.version]) {
    t.equal(nodeProblem(node), null, node);
  }
  for (const node of ['v18.20.8', 'v20.16.0', 'v21.7.3', 'v22.8.0']) {
    t.equal(nodeProblem(node), `kotodama needs Node ${engines.node}`, node);
  }
});
