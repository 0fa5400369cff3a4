// What the tests in a browser share: the models that are served, and tests with a page of their own.

import assert from "node:assert/strict";
import { after, test } from "node:test";
import { address, launch, saved, screenshot, visit } from "./visit.js";

export const token = process.env.SUBMASK_PAGE_TOKEN;
const headers = token ? { authorization: `Bearer ${token}` } : {};
const served = (await (await fetch(`${address}v1/models`, { headers })).json()).data;
/** A model of text that knows tokens in part and writes them as a whole, from plain text. */
function isMeant({ kind, subtokens, network, block_len: blocks, pairs }) {
  return kind === "text" && subtokens > 1 && network !== "autoregressive" && blocks === 0 && !pairs;
}
export const textModel = served.find((model) => isMeant(model.submask));
export const blockModel = served.find((model) => model.submask.block_len > 0);
export const imageModel = served.find((model) => model.submask.kind === "images");

export const browser = await launch();
after(() => browser.close());

/** A test with a page of its own, in which nothing may go wrong. */
export function onPage(name, options, body) {
  test(name, async () => {
    const visited = await visit(browser, options);
    try {
      await body(visited.page, visited.context);
      assert.deepEqual(visited.faults.filter((fault) => !options.allowed?.test(fault)), []);
    } catch (error) {
      await screenshot(visited.page, `failed-${name.replace(/\W+/g, "-")}`);
      throw error;
    } finally {
      await visited.context.close();
    }
  });
}

export function fragment(settings, model = textModel) {
  return `#${new URLSearchParams({ model: model.id, ...settings })}`;
}

/** What the runs on the stage were asked for and told, as the saved JSON has it. */
export async function savedRuns(page) {
  return JSON.parse((await saved(page, "#save-json")).bytes).runs;
}

/** The bytes of a picture, red, green, blue and opacity of each pixel. */
export async function pixels(page, source) {
  return page.evaluate(async (address) => {
    const image = new Image();
    image.src = address;
    await image.decode();
    const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
    const context = canvas.getContext("2d");
    context.drawImage(image, 0, 0);
    return [...context.getImageData(0, 0, canvas.width, canvas.height).data];
  }, source);
}
