// What a project that installs the package finds in it.
import { mkdirSync, symlinkSync } from 'node:fs';
import { join, resolve } from 'node:path';
import t from 'tap';
import ts from 'typescript';

t.test('TypeScript finds the types, however it looks for modules', (t) => {
  const folder = t.testdir();
  mkdirSync(join(folder, 'node_modules'));
  symlinkSync(resolve('.'), join(folder, 'node_modules/kotodama'));
  const { Node10, NodeNext, Bundler } = ts.ModuleResolutionKind;
  for (const moduleResolution of [Node10, NodeNext, Bundler]) {
    const { resolvedModule } = ts.resolveModuleName('kotodama', join(folder, 'a.ts'), { moduleResolution }, ts.sys);
    t.equal(resolvedModule?.resolvedFileName, resolve('dist/index.d.ts'), ts.ModuleResolutionKind[moduleResolution]);
  }
  t.end();
});
