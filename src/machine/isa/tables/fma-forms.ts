/** The forms of FMA, for those who define the instructions and those who perform them. @sdm "VFMADD132PD/VFMADD213PD/VFMADD231PD" */

/** [name, low digit of the packed opcode, whether there are scalars under the next one, sign of the product, signs of the addend in even and odd lanes] */
export const FMA: readonly (readonly [string, number, boolean, 1 | -1, 1 | -1, 1 | -1])[] = [
  ['VFMADDSUB', 6, false, 1, -1, 1],
  ['VFMSUBADD', 7, false, 1, 1, -1],
  ['VFMADD', 8, true, 1, 1, 1],
  ['VFMSUB', 10, true, 1, -1, -1],
  ['VFNMADD', 12, true, -1, 1, 1],
  ['VFNMSUB', 14, true, -1, -1, -1],
];
/** [name, high digit of the opcode, operands that are multiplied, operand that is added] */
export const FMA_ORDERS: readonly (readonly [string, number, readonly [number, number], number])[] = [
  ['132', 9, [0, 2], 1],
  ['213', 10, [1, 0], 2],
  ['231', 11, [1, 2], 0],
];
