// dockerode's everyday work, as dashboards in node do it. Arguments: where the module is, an image,
// a word that names what is made. Ends with `done`, or with the failure and code 1.
const [modules, image, word] = process.argv.slice(2);
const Docker = require(modules + "/dockerode");
const assert = require("assert");
const stream = require("stream");

const docker = new Docker(); // DOCKER_HOST, DOCKER_CERT_PATH, DOCKER_TLS_VERIFY
const text = async (readable) => {
  let said = "";
  for await (const piece of readable) said += piece;
  return said;
};
const sink = () => {
  const made = new stream.PassThrough();
  return made;
};
const ended = (readable) => new Promise((yes, no) => readable.on("end", yes).on("close", yes).on("error", no));

async function main() {
  assert.strictEqual((await docker.ping()).toString(), "OK");
  assert.ok((await docker.version()).ApiVersion);
  const info = await docker.info();
  assert.ok(info.Driver && info.NCPU);

  const heard = [];
  const events = await docker.getEvents({ filters: { label: [`dash=${word}`] } });
  events.on("data", (piece) =>
    piece.toString().trim().split("\n").forEach((line) => heard.push(JSON.parse(line).Action)));

  // run: attached, both streams apart
  const [out, err] = [sink(), sink()];
  const [outcome, ran] = await docker.run(image, ["sh", "-c", "echo out; echo err >&2; exit 3"], [out, err],
    { Tty: false, Labels: { dash: word }, HostConfig: { NetworkMode: "none" } });
  assert.strictEqual(outcome.StatusCode, 3);
  // It waits for the exit alone, which is told on another connection than what was printed.
  const printed = await Promise.all([out, err].map((one) => new Promise((yes) => one.once("data", yes))));
  assert.deepStrictEqual(printed.map(String), ["out\n", "err\n"]);
  await ran.remove();

  const box = await docker.createContainer({
    Image: image, name: `${word}-box`, Labels: { dash: word }, OpenStdin: true,
    Cmd: ["sh", "-c", "echo begun; trap 'exit 0' TERM; while :; do sleep 0.1; echo tick; done"],
    HostConfig: { NetworkMode: "none", Memory: 64 << 20 },
  });
  await box.start();
  const listed = await docker.listContainers({ all: true, size: true, filters: { label: [`dash=${word}`] } });
  assert.deepStrictEqual(listed.map((one) => one.Id), [box.id]);
  assert.strictEqual((await box.inspect({ size: true })).State.Running, true);

  // logs: followed and demultiplexed, then left in the midst
  const logs = await box.logs({ follow: true, stdout: true, stderr: true, timestamps: true });
  const lines = sink();
  docker.modem.demuxStream(logs, lines, lines);
  let said = "";
  for await (const piece of lines) {
    said += piece;
    if (said.split("tick").length > 2) break;
  }
  logs.destroy();
  assert.match(said, /^\d{4}-\d\d-\d\dT.*Z begun\n/);
  assert.match((await box.logs({ stdout: true, tail: 1 })).toString("latin1"), /tick\n$/);

  // stats: one, and two of a stream
  assert.ok((await box.stats({ stream: false })).memory_stats.limit === 64 << 20);
  const stats = await box.stats({ stream: true });
  const readings = [];
  let left = "";
  for await (const piece of stats) {
    left += piece;
    const parts = left.split("\n"); left = parts.pop();
    readings.push(...parts.filter(Boolean).map((line) => JSON.parse(line)));
    if (readings.length >= 2) break;
  }
  assert.ok(readings[1].cpu_stats.system_cpu_usage > readings[1].precpu_stats.system_cpu_usage);

  // exec: a terminal that is resized, and one whose input ends
  const shell = await box.exec({ Cmd: ["sh"], AttachStdin: true, AttachStdout: true, AttachStderr: true, Tty: true });
  const terminal = await shell.start({ hijack: true, stdin: true, Tty: true });
  await shell.resize({ h: 20, w: 90 });
  terminal.write("stty size; exit 6\n");
  assert.match(await text(terminal), /20 90/);
  assert.strictEqual((await shell.inspect()).ExitCode, 6);
  const cat = await box.exec({ Cmd: ["wc", "-c"], AttachStdin: true, AttachStdout: true, AttachStderr: true });
  const fed = await cat.start({ hijack: true, stdin: true });
  fed.end("x".repeat(100000));
  const counted = sink();
  docker.modem.demuxStream(fed, counted, counted);
  fed.on("end", () => counted.end());
  assert.strictEqual((await text(counted)).trim(), "100000");

  // attach, archives, top, changes, rename, update, pause, kill, wait
  const attached = await box.attach({ stream: true, stdout: true, stderr: true });
  await new Promise((yes) => attached.once("data", yes));
  attached.destroy();
  const tar = Buffer.concat([header("given", 5), Buffer.from("hello"), Buffer.alloc(512 - 5 + 1024)]);
  await box.putArchive(tar, { path: "/tmp" });
  assert.match((await text(await box.getArchive({ path: "/tmp/given" }))), /hello/);
  assert.ok((await box.top({ ps_args: "-o pid,args" })).Processes.length >= 1);
  assert.ok((await box.changes()).some((one) => one.Path === "/tmp/given" && one.Kind === 1));
  await box.rename({ name: `${word}-renamed` });
  await box.update({ RestartPolicy: { Name: "on-failure", MaximumRetryCount: 2 } });
  await box.pause(); await box.unpause(); await box.restart({ t: 0 });
  const waiting = box.wait();
  await box.kill({ signal: "KILL" });
  assert.strictEqual((await waiting).StatusCode, 137);
  await assert.rejects(box.kill(), (error) => error.statusCode === 409 && /is not running/.test(error.json.message));

  // images: built from a tar, committed, tagged, saved and loaded, removed
  const file = `FROM ${image}\nRUN echo built >/built\n`;
  const context = Buffer.concat([header("Dockerfile", file.length), Buffer.from(file), Buffer.alloc(512 - file.length + 1024)]);
  const building = await docker.buildImage(stream.Readable.from([context]), { t: `${word}:built` });
  const steps = await new Promise((yes, no) =>
    docker.modem.followProgress(building, (error, all) => (error ? no(error) : yes(all))));
  assert.ok(steps.some((one) => one.aux && /^sha256:/.test(one.aux.ID)));
  await box.commit({ repo: word, tag: "committed", changes: "ENV A=b" });
  const committed = docker.getImage(`${word}:committed`);
  assert.ok((await committed.inspect()).Config.Env.includes("A=b"));
  await committed.tag({ repo: word, tag: "more" });
  assert.ok((await committed.history()).length >= 1);
  const saved = await docker.getImage(`${word}:built`).get();
  const loading = await docker.loadImage(saved);
  assert.match(await text(loading), /Loaded image/);
  for (const tag of ["built", "committed", "more"]) await docker.getImage(`${word}:${tag}`).remove();
  await assert.rejects(docker.getImage(`${word}:more`).inspect(), (error) => error.statusCode === 404);
  await assert.rejects(docker.createContainer({ Image: `${word}:none` }), (error) => error.statusCode === 404);

  // volumes and networks
  const volume = await docker.createVolume({ Name: word, Labels: { dash: word } });
  assert.strictEqual((await docker.getVolume(word).inspect()).Labels.dash, word);
  assert.strictEqual((await docker.listVolumes({ filters: { label: [`dash=${word}`] } })).Volumes.length, 1);
  await docker.getVolume(word).remove();
  const network = await docker.createNetwork({ Name: word, Labels: { dash: word } });
  await box.remove({ force: true, v: true });
  assert.deepStrictEqual((await docker.listNetworks({ filters: { name: [word] } })).map((one) => one.Id), [network.id]);
  await network.remove();
  assert.ok((await docker.df()).LayersSize >= 0);
  const pruned = await docker.pruneContainers({ filters: { label: [`dash=${word}`] } });
  assert.strictEqual(pruned.ContainersDeleted === null || pruned.ContainersDeleted.length === 0, true);

  const deadline = Date.now() + 10000;
  while (!heard.includes("destroy") || !heard.includes("rename")) {
    assert.ok(Date.now() < deadline, heard.join(" "));
    await new Promise((yes) => setTimeout(yes, 20));
  }
  assert.ok(["create", "start", "die", "exec_create: sh ", "pause", "kill"].every((one) =>
    heard.some((action) => action.startsWith(one.trim()))), heard.join(" "));
  events.destroy();
  console.log("done");
}

function header(name, size) {
  const made = Buffer.alloc(512);
  made.write(name, 0); made.write("0000644\0", 100); made.write("0000000\0", 108); made.write("0000000\0", 116);
  made.write(size.toString(8).padStart(11, "0") + "\0", 124); made.write("00000000000\0", 136);
  made.write("        ", 148); made.write("0", 156); made.write("ustar\00000", 257, "latin1");
  let sum = 0;
  for (const byte of made) sum += byte;
  made.write(sum.toString(8).padStart(6, "0") + "\0 ", 148);
  return made;
}

main().then(() => process.exit(0), (error) => { console.error(error); process.exit(1); });
