/** The TypeScript handlers of operations that generated code leaves to TypeScript ("assists"), by mnemonic. */
import type { Outcome } from '../outcome.ts';
import type { Processor } from '../processor.ts';
import type { Insn } from './insn.ts';

/** Performs a whole instruction, or faults before changing anything. p.rip is the instruction's own address. */
export type Handler = (p: Processor, insn: Insn) => Outcome;

const handlers: Map<string, Handler> = new Map();

/** Registers the handler of every row with this mnemonic. */
export function implement(mnemonic: string, handler: Handler): void {
  if (handlers.has(mnemonic)) throw new Error(`two handlers for ${mnemonic}`);
  handlers.set(mnemonic, handler);
}

/** The handler, or undefined for an operation that is all generated code. */
export const handlerOf = (mnemonic: string): Handler | undefined => handlers.get(mnemonic);
