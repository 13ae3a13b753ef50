// Promises whose reactions run while `settled` waits: the engine runs none of its own within a call. `build` makes generators
// of async functions, so `await` comes here as well (ECMAScript 2023, section 27.2).

const jobs = [];

class Deferred {
  #state = "pending";
  #value;
  #reactions = [];

  constructor(executor) {
    const [resolve, reject] = this.#resolvers();
    try {
      executor(resolve, reject);
    } catch (error) {
      reject(error);
    }
  }

  /** Of the two only the first call counts. */
  #resolvers() {
    let called = false;
    const once = (settle) => (value) => {
      if (called) return;
      called = true;
      settle(value);
    };
    return [once((value) => this.#resolve(value)), once((error) => this.#settle("rejected", error))];
  }

  #resolve(value) {
    if (value === this) return this.#settle("rejected", new TypeError("a promise cannot wait for itself"));
    if (value === null || (typeof value !== "object" && typeof value !== "function")) {
      return this.#settle("fulfilled", value);
    }
    const [resolve, reject] = this.#resolvers();
    try {
      const { then } = value;
      if (typeof then !== "function") return this.#settle("fulfilled", value);
      jobs.push(() => {
        try {
          then.call(value, resolve, reject);
        } catch (error) {
          reject(error);
        }
      });
    } catch (error) {
      reject(error);
    }
  }

  #settle(state, value) {
    this.#state = state;
    this.#value = value;
    jobs.push(...this.#reactions);
    this.#reactions = [];
  }

  then(onFulfilled, onRejected) {
    return new Deferred((resolve, reject) => {
      const react = () => {
        const fulfilled = this.#state === "fulfilled";
        const handler = fulfilled ? onFulfilled : onRejected;
        if (typeof handler !== "function") return (fulfilled ? resolve : reject)(this.#value);
        try {
          resolve(handler(this.#value));
        } catch (error) {
          reject(error);
        }
      };
      if (this.#state === "pending") this.#reactions.push(react);
      else jobs.push(react);
    });
  }

  catch(onRejected) {
    return this.then(undefined, onRejected);
  }

  finally(onFinally) {
    if (typeof onFinally !== "function") return this.then();
    const after = (then) => Deferred.resolve(onFinally()).then(then);
    return this.then(
      (value) => after(() => value),
      (error) =>
        after(() => {
          throw error;
        }),
    );
  }

  static resolve(value) {
    return value instanceof Deferred ? value : new Deferred((resolve) => resolve(value));
  }

  static reject(error) {
    return new Deferred((_, reject) => reject(error));
  }

  static withResolvers() {
    let resolve, reject;
    const promise = new Deferred((...both) => ([resolve, reject] = both));
    return { promise, resolve, reject };
  }

  static all(values) {
    return collect(values, (promise, keep, reject) => promise.then(keep, reject));
  }

  static allSettled(values) {
    return collect(values, (promise, keep) =>
      promise.then(
        (value) => keep({ status: "fulfilled", value }),
        (reason) => keep({ status: "rejected", reason }),
      ),
    );
  }

  static race(values) {
    return new Deferred((resolve, reject) => {
      for (const value of values) Deferred.resolve(value).then(resolve, reject);
    });
  }

  static any(values) {
    // All of them failing is the one way to fail.
    const failures = collect(values, (promise, keep, succeed) => promise.then(succeed, keep));
    return failures.then(
      (errors) => {
        throw new AggregateError(errors, "all promises were rejected");
      },
      (value) => value,
    );
  }

  get [Symbol.toStringTag]() {
    return "Promise";
  }
}

/** What each of the values comes to, in their order. */
const collect = (values, wait) =>
  new Deferred((resolve, reject) => {
    const all = [...values];
    const results = [];
    let left = all.length;
    if (left === 0) resolve(results);
    all.forEach((value, place) => {
      const keep = (result) => {
        results[place] = result;
        if (--left === 0) resolve(results);
      };
      wait(Deferred.resolve(value), keep, reject);
    });
  });

/** What a value or promise comes to; throws what it was rejected with. */
export const settled = (value) => {
  let outcome;
  Deferred.resolve(value).then(
    (value) => (outcome = { value }),
    (error) => (outcome = { error }),
  );
  for (let job = jobs.shift(); job !== undefined; job = jobs.shift()) job();
  if (outcome === undefined) throw new Error("it waits for a promise that nothing can settle any more");
  if ("error" in outcome) throw outcome.error;
  return outcome.value;
};

globalThis.Promise = Deferred;
globalThis.queueMicrotask = (job) => jobs.push(job);
