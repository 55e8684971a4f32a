/** A bound over bytes that are held at a time. Nothing waits: what does not fit is turned away. */
export class ByteLimit {
  readonly #limitBytes: number;
  #takenBytes = 0;

  constructor(limitBytes: number) {
    this.#limitBytes = limitBytes;
  }

  get takenBytes(): number {
    return this.#takenBytes;
  }

  /** Whether they fit; then they are taken until they are released. */
  take(bytes: number): boolean {
    if (this.#takenBytes + bytes > this.#limitBytes) return false;
    this.#takenBytes += bytes;
    return true;
  }

  release(bytes: number): void {
    this.#takenBytes -= bytes;
  }
}
