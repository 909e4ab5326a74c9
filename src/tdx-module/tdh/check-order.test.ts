/**
 * The checks of a leaf in their order: with everything wrong from one check on, it answers that check's status.
 *
 * @tdx "ABI Reference: Interface Functions", order of checks
 */
import { describe, expect, it } from 'vitest';
import type { LockKind } from '../locks.ts';
import { OP_STATE } from '../objects/tdcs.ts';
import { LIFECYCLE } from '../objects/tdr.ts';
import { type Operands, TestPlatform, type TestTd } from './test-td.ts';

const GPA = 0x40_0000;
const RESERVED_PA = 16 * 2 ** 20; // the PAMT lies there
const OUTSIDE_PA = 2 ** 31; // no TDMR

interface Scene {
  platform: TestPlatform;
  td: TestTd;
  operands: Operands;
  held: [LockKind, number][];
}

/** A check: what the leaf answers, and what makes it fail. */
type Check = readonly [name: string, breakIt: (scene: Scene) => void];

const hold = (scene: Scene, kind: LockKind, id: number): void => {
  scene.held.push([kind, id]);
};

/** The TDR operand, in a register. */
const tdr = (register: 'rcx' | 'rdx'): Check[] => {
  const id = register === 'rcx' ? '0x1' : '0x2';
  return [
    [`TDX_OPERAND_INVALID ${id}`, ({ operands, td }) => void (operands[register] = td.pa + 0x800)],
    [`TDX_OPERAND_INVALID ${id}`, ({ operands, td }) => void (operands[register] = td.pa + 2 ** 46)],
    [`TDX_OPERAND_INVALID ${id}`, ({ operands }) => void (operands[register] = 1n << 52n)],
    [`TDX_OPERAND_ADDR_RANGE_ERROR ${id}`, ({ operands }) => void (operands[register] = OUTSIDE_PA)],
    [
      `TDX_OPERAND_BUSY ${id}`,
      (scene) => {
        const pa = Number(scene.operands[register] ?? scene.td.pa);
        hold(scene, 'pamt4k', pa);
      },
    ],
    [`TDX_PAGE_METADATA_INCORRECT ${id}`, ({ operands, platform }) => void (operands[register] = platform.page())],
    [`TDX_PAGE_METADATA_INCORRECT ${id}`, ({ operands }) => void (operands[register] = RESERVED_PA)],
  ];
};

/** The TD behind it. */
const state = (opState: number): Check[] => [
  ['TDX_TD_FATAL', ({ td }) => td.tdr.setFatal()],
  ['TDX_TD_KEYS_NOT_CONFIGURED', ({ td }) => td.tdr.set('LIFECYCLE_STATE', LIFECYCLE.HKID_ASSIGNED)],
  ['TDX_TDCS_NOT_ALLOCATED', ({ td }) => td.tdr.set('NUM_TDCX', 5)],
  ['TDX_OPERAND_BUSY 0xac', (scene) => hold(scene, 'op_state', scene.td.pa)],
  ['TDX_OP_STATE_INCORRECT', ({ td }) => td.tdcs.set('OP_STATE', opState)],
];

/** The GPA operand. */
const gpa = (badLevel: number): Check[] => [
  ['TDX_OPERAND_INVALID 0x1', ({ operands }) => void (operands.rcx = BigInt(operands.rcx ?? 0) | 8n)],
  ['TDX_OPERAND_INVALID 0x1', ({ operands }) => void (operands.rcx = BigInt(operands.rcx ?? 0) | (1n << 60n))],
  ['TDX_OPERAND_INVALID 0x1', ({ operands }) => void (operands.rcx = badLevel)],
  ['TDX_OPERAND_INVALID 0x1', ({ operands }) => void (operands.rcx = BigInt(operands.rcx ?? 0) | (1n << 47n))],
];
const tree: Check = ['TDX_OPERAND_BUSY 0x92', (scene) => hold(scene, 'sept_tree', scene.td.pa)];
const walk = (level: number): Check => [
  'TDX_EPT_WALK_FAILED 0x1',
  ({ operands }) => void (operands.rcx = 0x80_0000_0000 + level),
];
const entryLock: Check = ['TDX_OPERAND_BUSY 0x1', (scene) => hold(scene, 'sept_entry', Number(scene.operands.rcx))];
const entryState = (breakIt: Check[1]): Check => ['TDX_EPT_ENTRY_STATE_INCORRECT 0x1', breakIt];
const tracking: Check[] = [
  [
    'TDX_GPA_RANGE_NOT_BLOCKED 0x1',
    ({ td, operands }) => {
      td.tdcs.set('OP_STATE', OP_STATE.INITIALIZED);
      td.call(39, { rcx: operands.rcx ?? 0 });
      td.runnable();
    },
  ],
  [
    'TDX_TLB_TRACKING_NOT_DONE 0x1',
    ({ td, operands }) => {
      td.call(7, { rcx: operands.rcx ?? 0 });
      td.runnable();
    },
  ],
];

/** A free page as operand. */
const newPage = (register: 'rcx' | 'r8'): Check[] => {
  const id = register === 'rcx' ? '0x1' : '0x8';
  return [
    [`TDX_OPERAND_INVALID ${id}`, ({ operands }) => void (operands[register] = 0x10_0800)],
    [`TDX_OPERAND_INVALID ${id}`, ({ operands }) => void (operands[register] = 5 * 2 ** 46)],
    [`TDX_OPERAND_ADDR_RANGE_ERROR ${id}`, ({ operands }) => void (operands[register] = OUTSIDE_PA)],
    [`TDX_OPERAND_BUSY ${id}`, (scene) => hold(scene, 'pamt4k', Number(scene.operands[register] ?? 0))],
    [`TDX_PAGE_METADATA_INCORRECT ${id}`, ({ operands, td }) => void (operands[register] = td.tdcs.pages[0]!)],
    [`TDX_PAGE_METADATA_INCORRECT ${id}`, ({ operands }) => void (operands[register] = RESERVED_PA)],
  ];
};

/** A virtual processor's root page as operand. */
const tdvpr = (register: 'rcx' | 'rdx'): Check[] => {
  const id = register === 'rcx' ? '0x1' : '0x2';
  return [
    [`TDX_OPERAND_INVALID ${id}`, ({ operands }) => void (operands[register] = 0x10_0800)],
    [`TDX_OPERAND_ADDR_RANGE_ERROR ${id}`, ({ operands }) => void (operands[register] = OUTSIDE_PA)],
    [`TDX_OPERAND_BUSY ${id}`, (scene) => hold(scene, 'pamt4k', Number(scene.operands[register] ?? 0))],
    [`TDX_PAGE_METADATA_INCORRECT ${id}`, ({ operands, td }) => void (operands[register] = td.tdcs.pages[1]!)],
    [`TDX_PAGE_METADATA_INCORRECT ${id}`, ({ operands }) => void (operands[register] = RESERVED_PA)],
    ['TDX_OPERAND_BUSY 0x80', (scene) => hold(scene, 'pamt4k', scene.td.pa)],
  ];
};

interface Case {
  leaf: number;
  /** Brings about a scene in which the leaf succeeds. */
  arrange: (scene: Scene) => void;
  checks: Check[];
}

const mapped = ({ td, operands, platform }: Scene): void => {
  td.add(GPA);
  operands.rcx = GPA;
  operands.r8 = platform.page();
};
const free = ({ td, operands, platform }: Scene): void => {
  td.tables(GPA);
  operands.rcx = GPA;
  operands.r8 = platform.page();
  operands.r9 = platform.page();
};
const large = ({ td, operands, platform }: Scene): void => {
  td.aug(GPA, 1);
  operands.rcx = GPA + 1;
  operands.r8 = platform.page();
};
const occupied: Check[1] = ({ td, operands }) => {
  td.add(GPA + 0x1000);
  operands.rcx = GPA + 0x1000;
};
const unoccupied: Check[1] = ({ operands }) => void (operands.rcx = GPA + 0x1000);
const unoccupiedLarge: Check[1] = ({ operands }) => void (operands.rcx = GPA + 0x20_0001);

const CASES: Record<string, Case> = {
  'TDH.MEM.PAGE.ADD': {
    leaf: 2,
    arrange: free,
    checks: [
      ...tdr('rdx'),
      ...state(OP_STATE.RUNNABLE),
      ...gpa(1),
      walk(0),
      entryState(occupied),
      ['TDX_OPERAND_INVALID 0x9', ({ operands }) => void (operands.r9 = 0x1001)],
      ...newPage('r8'),
    ],
  },
  'TDH.MEM.SEPT.ADD': {
    leaf: 3,
    arrange({ td, operands, platform }) {
      td.tables(GPA, 1);
      operands.rcx = GPA + 1;
      operands.r8 = platform.page();
    },
    checks: [
      ...tdr('rdx'),
      ...state(OP_STATE.PAUSED_EXPORT),
      ...gpa(4),
      tree,
      walk(1),
      entryLock,
      entryState(({ td, operands }) => {
        td.tables(GPA + 0x20_0000);
        operands.rcx = GPA + 0x20_0001;
      }),
      ...newPage('r8'),
    ],
  },
  'TDH.MEM.PAGE.RELOCATE': {
    leaf: 5,
    arrange: mapped,
    checks: [
      ...tdr('rdx'),
      ...state(OP_STATE.UNINITIALIZED),
      ...gpa(1),
      tree,
      walk(0),
      entryLock,
      entryState(unoccupied),
      ...tracking,
      ...newPage('r8'),
    ],
  },
  'TDH.MEM.PAGE.AUG': {
    leaf: 6,
    arrange: free,
    checks: [
      ...tdr('rdx'),
      ...state(OP_STATE.PAUSED_EXPORT),
      ...gpa(2),
      tree,
      walk(0),
      entryLock,
      entryState(occupied),
      ...newPage('r8'),
    ],
  },
  'TDH.MEM.RANGE.BLOCK': {
    leaf: 7,
    arrange: mapped,
    checks: [
      ...tdr('rdx'),
      ...state(OP_STATE.UNINITIALIZED),
      ...gpa(4),
      tree,
      walk(0),
      entryLock,
      entryState(unoccupied),
    ],
  },
  'TDH.MEM.RANGE.UNBLOCK': {
    leaf: 39,
    arrange(scene) {
      mapped(scene);
      scene.td.call(7, { rcx: GPA });
    },
    checks: [
      ...tdr('rdx'),
      ...state(OP_STATE.UNINITIALIZED),
      ...gpa(4),
      tree,
      walk(0),
      entryLock,
      entryState(unoccupied),
      ['TDX_TLB_TRACKING_NOT_DONE 0x1', ({ td }) => void td.runnable()],
    ],
  },
  'TDH.MEM.PAGE.REMOVE': {
    leaf: 29,
    arrange: mapped,
    checks: [
      ...tdr('rdx'),
      ...state(OP_STATE.UNINITIALIZED),
      ...gpa(3),
      tree,
      walk(0),
      entryLock,
      entryState(unoccupied),
      ...tracking,
    ],
  },
  'TDH.MEM.PAGE.DEMOTE': {
    leaf: 15,
    arrange: large,
    checks: [
      ['TDX_OPERAND_INVALID 0x2', ({ operands, td }) => void (operands.rdx = td.pa + 2)],
      ...tdr('rdx'),
      ...state(OP_STATE.UNINITIALIZED),
      ...gpa(0),
      tree,
      walk(1),
      entryLock,
      entryState(unoccupiedLarge),
      ...tracking,
      ...newPage('r8'),
    ],
  },
  'TDH.MEM.PAGE.PROMOTE': {
    leaf: 23,
    arrange(scene) {
      large(scene);
      scene.td.call(15, { rcx: GPA + 1, r8: scene.platform.page() });
    },
    checks: [
      ...tdr('rdx'),
      ...state(OP_STATE.UNINITIALIZED),
      ...gpa(0),
      tree,
      walk(1),
      entryLock,
      entryState(unoccupiedLarge),
      ...tracking,
      ['TDX_EPT_INVALID_PROMOTE_CONDITIONS 0x1', ({ td }) => void td.call(29, { rcx: GPA + 0x3000 })],
    ],
  },
  'TDH.MEM.SEPT.RD': {
    leaf: 25,
    arrange: mapped,
    checks: [...tdr('rdx'), ...state(OP_STATE.UNINITIALIZED), ...gpa(4), tree, walk(0), entryLock],
  },
  'TDH.MEM.SEPT.REMOVE': {
    leaf: 30,
    arrange({ td, operands }) {
      td.tables(GPA);
      operands.rcx = GPA + 1;
    },
    checks: [
      ...tdr('rdx'),
      ...state(OP_STATE.UNINITIALIZED),
      ...gpa(0),
      tree,
      walk(1),
      entryLock,
      entryState(unoccupiedLarge),
      ...tracking,
      ['TDX_EPT_PAGE_NOT_FREE 0x1', ({ td }) => void td.add(GPA)],
    ],
  },
  'TDH.MEM.RD': {
    leaf: 12,
    arrange(scene) {
      scene.td.tdcs.set('ATTRIBUTES', 1n);
      mapped(scene);
    },
    checks: [
      ...tdr('rdx'),
      ...state(OP_STATE.UNINITIALIZED),
      ['TDX_TD_NON_DEBUG', ({ td }) => td.tdcs.set('ATTRIBUTES', 0n)],
      ['TDX_OPERAND_INVALID 0x1', ({ operands }) => void (operands.rcx = GPA + 4)],
      tree,
      ['TDX_OPERAND_INVALID 0x1', ({ operands }) => void (operands.rcx = 1n << 47n)],
      ['TDX_EPT_ENTRY_NOT_PRESENT 0x1', unoccupied],
      entryLock,
    ],
  },
  'TDH.MEM.TRACK': {
    leaf: 38,
    arrange: ({ operands, td }) => void (operands.rcx = td.pa),
    checks: [
      ...tdr('rcx'),
      ...state(OP_STATE.UNINITIALIZED),
      ['TDX_OPERAND_BUSY 0xa9', (scene) => hold(scene, 'td_epoch', scene.td.pa)],
      ['TDX_PREVIOUS_TLB_EPOCH_BUSY', ({ td }) => td.tdcs.set('REFCOUNT', 1, 0)],
    ],
  },
  'TDH.MR.EXTEND': {
    leaf: 16,
    arrange: mapped,
    checks: [
      ...tdr('rdx'),
      ...state(OP_STATE.RUNNABLE),
      ['TDX_OPERAND_INVALID 0x1', ({ operands }) => void (operands.rcx = GPA + 128)],
      ['TDX_OPERAND_INVALID 0x1', ({ operands }) => void (operands.rcx = 1n << 47n)],
      ['TDX_EPT_ENTRY_NOT_PRESENT 0x1', unoccupied],
    ],
  },
  'TDH.MR.FINALIZE': {
    leaf: 17,
    arrange({ operands, td }) {
      td.tdcs.set('NUM_VCPUS', 1);
      operands.rcx = td.pa;
    },
    checks: [...tdr('rcx'), ...state(OP_STATE.RUNNABLE), ['TDX_NO_VCPUS', ({ td }) => td.tdcs.set('NUM_VCPUS', 0)]],
  },
  'TDH.VP.CREATE': {
    leaf: 10,
    arrange: ({ operands, platform }) => void (operands.rcx = platform.page()),
    checks: [...tdr('rdx'), ...state(OP_STATE.RUNNABLE), ...newPage('rcx')],
  },
  'TDH.VP.ADDCX': {
    leaf: 4,
    arrange({ operands, platform, td }) {
      operands.rdx = platform.page();
      td.call(10, { rcx: operands.rdx });
      operands.rcx = platform.page();
    },
    checks: [
      ...tdvpr('rdx'),
      ...state(OP_STATE.RUNNABLE),
      [
        'TDX_VCPU_STATE_INCORRECT 0x2',
        ({ platform, operands }) => platform.module.tdvpsAt(Number(operands.rdx)).set('VCPU_STATE', 2),
      ],
      [
        'TDX_TDCX_NUM_INCORRECT',
        ({ platform, operands }) => platform.module.tdvpsAt(Number(operands.rdx)).set('NUM_TDVPS_PAGES', 6),
      ],
      ...newPage('rcx'),
    ],
  },
};

function run(platform: TestPlatform, { leaf, arrange, checks }: Case, from: number): string {
  const td = platform.td();
  const scene: Scene = { platform, td, operands: { rdx: td.pa }, held: [] };
  arrange(scene);
  for (let i = checks.length - 1; i >= from; i--) checks[i]![1](scene);
  platform.module.hooks.lockHeld = (kind, id) => scene.held.some(([k, i]) => k === kind && i === id);
  const { name } = platform.call(leaf, scene.operands);
  delete platform.module.hooks.lockHeld;
  return name;
}

describe.each(Object.entries(CASES))('%s', (_name, test) => {
  const platform = new TestPlatform(1);
  it('succeeds where nothing is wrong', () => {
    expect(run(platform, test, test.checks.length)).toBe('TDX_SUCCESS');
  });
  it.each(test.checks.map(([name], i) => [i, name] as const))('check %i: %s', (i, name) => {
    expect(run(platform, test, i)).toBe(name);
  });
});
