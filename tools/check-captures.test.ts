import { describe, expect, it } from 'vitest';
import { findCaptures } from './check-captures.ts';

const find = (text: string): string[] => findCaptures('x.ts', text);

describe('closures that change captured variables', () => {
  it('finds assignments, updates and patterns', () => {
    expect(find('function f() { let a = 0;\n const g = () => a++; }')).toEqual(['2: a']);
    expect(find('const f = (a) => {\n return function () { a ||= 1; }; };')).toEqual(['2: a']);
    expect(find('class C { m() { let a; let b;\n [1].map(() => { [a, { b }] = x; }); } }')).toEqual(['2: a', '2: b']);
    expect(find('function f() { const g = () => { a = 1; }; let a = 0; }')).toEqual(['1: a']);
    expect(find('function f() { for (let i = 0; i < 3; i++) g(() => i++); }')).toEqual(['1: i']);
  });

  it('leaves alone what is safe', () => {
    expect(find('let a = 0; export const f = () => a++;')).toEqual([]);
    expect(find('function f() { let a = 0; a++; const g = () => a; return g; }')).toEqual([]);
    expect(find('function f() { let a = 0; const g = () => { let a = 1; a++; }; a++; }')).toEqual([]);
    expect(find('function f() { const a = { n: 0 }; const g = () => { a.n++; }; }')).toEqual([]);
    expect(find('function f(a) { return (a) => { a = 1; return a; }; }')).toEqual([]);
  });
});
