// A request that failed: a banner says so and offers to try again, until it is closed or something succeeds.
import { byId, element } from "./page.js";

/** Show what failed. `retry` is called by the button; without one there is only the message. */
export function showFailure(text, retry = null) {
  const again = retry && element("button", { type: "button", id: "retry", onclick: () => { clearFailure(); retry(); } }, "Try again");
  byId("failure").replaceChildren(element("span", {}, text), ...(again ? [again] : []),
    element("button", { type: "button", id: "dismiss", "aria-label": "Close the message", onclick: clearFailure }, "×"));
}

export function clearFailure() {
  byId("failure").replaceChildren();
}

/** A message in the place of what could not be loaded, with a button to try again. */
export const failedPart = (error, retry) => element("div", { className: "failed" }, element("p", { role: "alert" }, error.message),
  element("button", { type: "button", onclick: retry }, "Try again"));
