import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { LocalWrites } from './local-writes.ts';

describe('changes', () => {
  test('are known from when they happen until they are heard', () => {
    const changes = new LocalWrites();
    assert.equal(changes.has('list'), false);
    changes.note('list');
    assert.equal(changes.has('list'), true);
    assert.equal(changes.has('other'), false);
    const asked = changes.ask();
    assert.equal(changes.has('list'), true, 'the answer is still to come');
    assert.equal(changes.isCurrent('list', asked), true);
    assert.equal(changes.has('list'), false);
  });

  test('that happen while a question is under way make its answer old', () => {
    for (const isChangedBefore of [false, true]) {
      const changes = new LocalWrites();
      if (isChangedBefore) changes.note('list');
      const asked = changes.ask();
      changes.note('list');
      assert.equal(changes.isCurrent('list', asked), false);
      assert.equal(changes.has('list'), true);
      assert.equal(changes.isCurrent('list', changes.ask()), true);
    }
  });

  test('are not forgotten by an answer that comes late, after a newer one was heard', () => {
    const changes = new LocalWrites();
    const slow = changes.ask();
    changes.note('list');
    assert.equal(changes.isCurrent('list', changes.ask()), true);
    assert.equal(changes.isCurrent('list', slow), false);
  });

  test('leave several answers to the same question as good as each other', () => {
    const changes = new LocalWrites();
    changes.note('list');
    const [one, two] = [changes.ask(), changes.ask()];
    assert.equal(changes.isCurrent('list', one), true);
    assert.equal(changes.has('list'), false);
    // Whether the second counts does not matter, as long as nothing is taken for changed.
    changes.isCurrent('list', two);
    assert.equal(changes.has('list'), false);
  });

  test('of one key say nothing of another', () => {
    const changes = new LocalWrites();
    const asked = changes.ask();
    changes.note('other');
    assert.equal(changes.isCurrent('list', asked), true);
    assert.equal(changes.has('other'), true);
  });

  test('are never lost, whatever is asked and heard in which order: no answer from before one passes for new', () => {
    const steps = fc.array(
      fc.oneof(
        fc.record({ do: fc.constant('note' as const), key: fc.constantFrom('a', 'b') }),
        fc.record({ do: fc.constant('ask' as const), key: fc.constantFrom('a', 'b') }),
        fc.record({ do: fc.constant('hear' as const), key: fc.constantFrom('a', 'b'), which: fc.nat(5) }),
      ),
      { maxLength: 30 },
    );
    fc.assert(
      fc.property(steps, all => {
        const changes = new LocalWrites();
        /** How many changes there were, and how many of them a current answer was asked after. */
        const happened = new Map<string, number>();
        const heard = new Map<string, number>();
        const asked: { key: string; mark: ReturnType<LocalWrites['ask']>; happened: number }[] = [];
        for (const step of all) {
          const count = happened.get(step.key) ?? 0;
          if (step.do === 'note') {
            changes.note(step.key);
            happened.set(step.key, count + 1);
          } else if (step.do === 'ask') {
            asked.push({ key: step.key, mark: changes.ask(), happened: count });
          } else {
            const open = asked.filter(({ key }) => key === step.key);
            const question = open[step.which % Math.max(1, open.length)];
            if (question === undefined) continue;
            if (changes.isCurrent(step.key, question.mark)) {
              assert.equal(question.happened, count, 'the answer is from before a change');
              heard.set(step.key, count);
            }
          }
        }
        for (const key of ['a', 'b']) {
          const isOld = (happened.get(key) ?? 0) > (heard.get(key) ?? 0);
          if (isOld) assert.equal(changes.has(key), true);
        }
      }),
      { numRuns: 300 },
    );
  });
});
