/** How often each leaf was called, by its name. */
export class CallCounts extends Map<string, number> {
  add(name: string): void {
    this.set(name, (this.get(name) ?? 0) + 1);
  }
}
