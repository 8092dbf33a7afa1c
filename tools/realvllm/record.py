"""Record a release of vLLM again, or for the first time: make record-vllm RELEASE=X

    record.py FACTS RELEASE MODEL [NAME ...]

FACTS is the folder of the recorded releases. What is run, and what is asked, is what
was run and asked of the newest other release in it; a scenario that it lacks is added there
by hand, as a .json with argv and env. MODEL is the tiny model. With names, only those
recordings are made. Run it with the python of an environment that has vLLM, on a
computer that does nothing else, as root: one scenario needs a full disk.
"""

import concurrent.futures
import contextlib
import glob
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

FACTS, RELEASE, TINY, *ONLY = sys.argv[1:]
OUT = os.path.join(FACTS, RELEASE)
KEY = "sk-recorded-0123456789"
READY = "Application startup complete."
KEPT_HEADERS = {"server", "content-type", "content-length", "vary", "connection", "transfer-encoding", "allow", "www-authenticate"}
QUIET = {"VLLM_CPU_KVCACHE_SPACE": "1", "HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1"}
BUSY = 12  # requests at once where the queue is to be full

work = tempfile.mkdtemp()
models, data, full = (os.path.join(work, name) for name in ("models", "data", "full"))
# What stands in argv, environment and logs for a place of this computer.
PLACES = [(data, "/data"), (models, "/models"), (full, "/full"), (os.path.join(work, "cache"), "/root/.cache/vllm"),
          (sys.prefix, "/opt/vllm"), (sys.base_prefix, "/usr/local")]


def here(text):
    """A recorded text with the places of this computer."""
    for place, recorded in PLACES[:4]:
        text = re.sub(rf"(?<![\w.-]){re.escape(recorded)}(?=/|$)", place, text)
    return text


def recorded(text, port):
    """A log with the recorded places, without the source lines of tracebacks."""
    for place, name in PLACES:
        text = text.replace(place, name)
    lines, frame = [], None
    for line in re.sub(rf"\b{port}\b", "8100", text).split("\n"):
        if frame and line.startswith(frame.group(1) + "  ") and 'File "' not in line:
            if not lines[-1].endswith("..."):
                lines.append(frame.group(1) + "  ...")
            continue
        frame = re.match(r'(.*?(?:^|[ \]])\s*)File "[^"]+", line \d+, in ', line)
        lines.append(line)
    return "\n".join(lines)


def make_models():
    """The models of the scenarios: the tiny one, and what is wrong with the others."""
    os.makedirs(data)

    def copy(name, config=None, without=()):
        shutil.copytree(TINY, os.path.join(models, name), ignore=shutil.ignore_patterns(*without))
        if config:
            edit(os.path.join(name, "config.json"), config)

    def edit(path, change):
        path = os.path.join(models, path)
        with open(path) as file:
            content = json.load(file)
        change(content)
        with open(path, "w") as file:
            json.dump(content, file)

    copy("tiny")
    copy("long", lambda c: c.update(max_position_embeddings=8_000_000))
    copy("noconfig", without=["config.json"])
    copy("truncated")
    for path in glob.glob(os.path.join(models, "truncated", "*.safetensors")):
        os.truncate(path, os.path.getsize(path) // 2)
    copy("noweights", without=["*.safetensors"])
    copy("garbage")
    for path in glob.glob(os.path.join(models, "garbage", "*.safetensors")):
        with open(path, "r+b") as file:
            file.write(b"\xff" * 4096)
    copy("wrongshapes", lambda c: c.update(intermediate_size=2 * c["intermediate_size"]))
    copy("morelayers", lambda c: c.update(num_hidden_layers=c["num_hidden_layers"] + 1, layer_types=None, max_window_layers=3))
    copy("badconfig")
    with open(os.path.join(models, "badconfig", "config.json"), "a") as file:
        file.write(",")
    copy("badtokenizer")
    edit("badtokenizer/tokenizer_config.json", lambda c: c.update(tokenizer_class="FrobTokenizer"))
    copy("badarch", lambda c: c.update(architectures=["FrobForCausalLM"]))
    copy("badtype", lambda c: c.update(model_type="frob", architectures=["FrobForCausalLM"]))
    copy("remotecode", lambda c: c.update(model_type="frob", auto_map={"AutoConfig": "configuration_frob.FrobConfig"}))
    with open(os.path.join(models, "remotecode", "configuration_frob.py"), "w") as file:
        file.write("from transformers import PretrainedConfig\n\n\nclass FrobConfig(PretrainedConfig):\n    model_type = 'frob'\n")
    copy("nochat", without=["chat_template.jinja"])
    edit("nochat/tokenizer_config.json", lambda c: c.pop("chat_template", None))
    copy("notok", without=["tokenizer*", "special_tokens_map.json", "vocab*", "merges*"])
    make_adapter(os.path.join(models, "adapter"))
    subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
                    "-keyout", os.path.join(data, "tls.key"), "-out", os.path.join(data, "tls.crt")], check=True, capture_output=True)


def make_adapter(path):
    """A LoRA adapter of rank 8 for the tiny model's query projections."""
    import torch
    from safetensors.torch import save_file

    with open(os.path.join(TINY, "config.json")) as file:
        config = json.load(file)
    width = config["hidden_size"]
    heads = config["num_attention_heads"] * config.get("head_dim", width // config["num_attention_heads"])
    weights = {}
    for layer in range(config["num_hidden_layers"]):
        name = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
        weights[name + ".lora_A.weight"], weights[name + ".lora_B.weight"] = torch.zeros(8, width), torch.zeros(heads, 8)
    os.makedirs(path)
    save_file(weights, os.path.join(path, "adapter_model.safetensors"))
    with open(os.path.join(path, "adapter_config.json"), "w") as file:
        json.dump({"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 8, "lora_alpha": 8, "target_modules": ["q_proj"], "bias": "none"}, file)


class Server:
    """One run of vLLM, from its start to its end."""

    def __init__(self, name, argv, env):
        self.name, self.argv, self.env = name, argv, env
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.health, self.stopped, self.after, self.ready = [], None, None, None
        self.log = os.path.join(work, "log")

    def __enter__(self):
        environment = {**os.environ, **QUIET}
        for name, value in self.env.items():
            if value is None:
                environment.pop(name, None)
            else:
                environment[name] = here(value)
        arguments = [str(self.port) if text == "8100" else here(text) for text in self.argv]
        self.began = time.monotonic()
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen([os.path.join(sys.prefix, "bin", "vllm"), *arguments], cwd=models, env=environment,
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        self.watch = threading.Thread(target=self.look)
        self.watch.start()
        return self

    def look(self):
        """Note each change of what /health says, until it is well."""
        while self.process.poll() is None and self.ready is None:
            try:
                said = self.ask("GET", "/health", timeout=5).status
            except Exception as error:  # the recorded fact is its name
                said = type(error).__name__
            if not self.health or self.health[-1][1] != said:
                self.health.append([round(self.seconds(), 1) if self.health else 0.0, said])
            if said == 200 and self.ready is None:
                self.ready = self.seconds()
            time.sleep(0.5)

    def seconds(self):
        return time.monotonic() - self.began

    def text(self):
        with open(self.log, errors="surrogateescape") as log:
            return log.read()

    def until(self, condition, limit=600):
        """Wait until the condition holds, the server ends, or the time is over."""
        while not condition() and self.process.poll() is None and self.seconds() < limit:
            time.sleep(0.1)
        return self.process.poll() is None

    def until_ready(self):
        return self.until(lambda: self.ready is not None or "RemoteDisconnected" in str(self.health))

    def members(self, word):
        """The processes of the server's session with this word in their command line."""
        found = []
        for path in glob.glob("/proc/[0-9]*/cmdline"):
            pid = int(path.split("/")[2])
            with contextlib.suppress(OSError):
                if os.getsid(pid) == self.process.pid and word in open(path).read():
                    found.append(pid)
        return found

    def ask(self, method, path, body=None, headers=None, timeout=90, secure=False):
        """An answer with status, headers (those that are kept), text, and seconds."""
        headers = {"Connection": "close", **(headers or {})}
        if body is not None and not isinstance(body, str):
            body = json.dumps(body)
        if body is not None:
            headers.setdefault("Content-Type", "application/json")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        began = time.monotonic()
        try:
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            answer.text = answer.read().decode()
        finally:
            connection.close()
        answer.kept = {name.lower(): value for name, value in answer.getheaders() if name.lower() in KEPT_HEADERS}
        answer.took = round(time.monotonic() - began, 2)
        return answer

    def tree(self):
        """The server's processes, as ps prints them."""
        return subprocess.run(["ps", "-o", "pid,ppid,pgid,sid,comm,args", "-s", str(self.process.pid)],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True).stdout

    def stop(self):
        began = time.monotonic()
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(60)
            self.stopped = round(time.monotonic() - began, 1)

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.stop()
        began = time.monotonic()
        while self.members("") and time.monotonic() < began + 10:  # the resource tracker removes shared memory
            time.sleep(0.1)
        for pid in self.members(""):  # what a killed server leaves
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        self.watch.join()
        os.makedirs(os.path.dirname(os.path.join(OUT, self.name)), exist_ok=True)
        with open(os.path.join(OUT, self.name + ".log"), "w", errors="surrogateescape", newline="") as file:
            file.write(recorded(self.text(), self.port))
        save(self.name + ".json", {
            "argv": self.argv, "env": self.env, "exit": self.process.returncode,
            "seconds": round(self.ready or self.seconds(), 1), "health": self.health,
            "stopped_after_sigterm_s": self.stopped, "after": self.after,
        })
        print(f"{self.name}: exit {self.process.returncode}, ready after {self.ready and round(self.ready, 1)} s", flush=True)


def save(name, value):
    path = os.path.join(OUT, name)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w") as file:
        json.dump(value, file, indent=1, ensure_ascii=False)


def record_flags():
    """Every option of `vllm serve`, as its parser describes them."""
    from vllm.entrypoints.cli.serve import cmd_init

    try:
        from vllm.utils.argparse_utils import FlexibleArgumentParser
    except ImportError:  # releases before 0.12
        from vllm.utils import FlexibleArgumentParser
    parser = cmd_init()[0].subparser_init(FlexibleArgumentParser().add_subparsers())
    flags = []
    for group in parser._action_groups:
        for action in group._group_actions:
            kind = type(action).__name__
            default = action.default
            try:
                json.dumps(default)
            except TypeError:
                default = repr(default)
            flags.append({
                "flags": list(action.option_strings) or [action.dest], "group": group.title,
                "takes": {"_StoreAction": "value", "_StoreTrueAction": "switch", "_StoreConstAction": "switch",
                          "BooleanOptionalAction": "switch with --no-"}.get(kind, kind),
                "nargs": action.nargs, "choices": action.choices and list(action.choices), "default": default,
            })
    save("flags.json", flags)


def exchange(server, request):
    """A request of http.json with this release's answer."""
    headers = dict(request["headers"])
    if request["key"] != "none":
        headers["Authorization"] = "Bearer " + (KEY if request["key"] == "right" else "sk-wrong")
    answer = server.ask(request["method"], request["path"], request["body"], headers)
    body = answer.text
    with contextlib.suppress(ValueError):
        body = json.loads(body)
    if request["path"] == "/openapi.json" and answer.status == 200:
        routes = {path: sorted(methods) for path, methods in body["paths"].items()}
        body = {"openapi": body["openapi"], "info": body["info"], "routes": routes}
    elif request["path"] == "/metrics":
        body = "".join(line for line in body.splitlines(True) if not line.startswith("# HELP"))
    elif answer.text.lstrip().startswith("<!DOCTYPE"):
        body = "(a page of HTML)"
    return {"request": request, "answer": {"status": answer.status, "headers": answer.kept, "body": body}}


def record_start(old, name):
    """A whole start; of the compiled one also every request, processes and sockets."""
    with Server(name, old["argv"], old["env"]) as server:
        server.until_ready()
        if name == "serve":
            with open("/dev/null") as nothing, open(os.path.join(OUT, "processes.txt"), "w") as file:
                tree = server.tree()
                pids = "|".join(f"pid={line.split()[0]}," for line in tree.splitlines()[1:])
                sockets = subprocess.run(["ss", "-ltnp"], stdin=nothing, capture_output=True, text=True, check=True).stdout
                listening = [line for number, line in enumerate(sockets.splitlines()) if number == 0 or re.search(pids, line)]
                file.write(recorded(tree + "\n" + "\n".join(listening) + "\n", server.port))
            save("http.json", [exchange(server, e["request"]) for e in load("http.json")])
            server.after = f"{len(load('http.json'))} requests"


def record_failure(old, name):
    with contextlib.ExitStack() as stack:
        server = Server("failures/" + name, old["argv"], old["env"])
        if name == "port-taken":
            taken = stack.enter_context(socket.socket())
            taken.bind(("127.0.0.1", server.port))
            taken.listen()
        stack.enter_context(server)
        if name == "engine-killed-loading":
            kill_while_warming(server, "EngineCore")
        server.until(lambda: server.ready is not None)


def kill_while_warming(server, word, sent=signal.SIGKILL):
    server.until(lambda: re.search(r"[Ww]arm(ing|up)", server.text()))
    for pid in server.members(word):
        os.kill(pid, sent)


def requests_of(server, old, name):
    """The run's requests, with answers. An engine or worker that is to hang is stopped until the last one."""
    hung = {"hung-engine": "EngineCore", "hung-worker": "VLLM::Worker"}.get(name)
    stopped = server.members(hung) if hung else []
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)

    def one(request):
        method, path, body = request
        fact = {"request": request}
        try:
            answer = server.ask(method, here(path), body and json.loads(here(json.dumps(body))), timeout=90)
            fact.update(status=answer.status, headers=answer.kept, body=answer.text if name == "streams" else answer.text[:4000], seconds=answer.took)
        except OSError as error:
            fact.update(error=repr(error), seconds=90.1)
        return fact

    asked = [entry["request"] for entry in old if "request" in entry]
    if name == "queue-full":
        with concurrent.futures.ThreadPoolExecutor(BUSY) as pool:
            facts = sorted(pool.map(one, asked[:BUSY]), key=lambda fact: -fact.get("status", 0)) + [one(r) for r in asked[BUSY:]]
    else:
        facts = [one(request) for request in asked[:-1]]
        for pid in stopped:
            os.kill(pid, signal.SIGCONT)
        facts.append(one(asked[-1]))
    save(f"runs/{name}.http.json", facts)
    server.after = f"{len(facts)} requests"


def record_run(old, name):
    """A server that starts, and what is done to it."""
    with Server("runs/" + name, old["argv"], old["env"]) as server:
        if name == "sigterm-early":
            server.until(lambda: "non-default args" in server.text())
            server.stop()
        elif name == "sigterm-loading":
            server.until(lambda: re.search(r"[Ww]arm(ing|up)", server.text()))
            server.process.terminate()
        if not server.until_ready():
            return
        if killed := re.match(r"(engine|worker)-killed-ready", name):
            word = {"engine": "EngineCore", "worker": "VLLM::Worker"}[killed.group(1)]
            began = time.monotonic()
            for pid in server.members(word):
                os.kill(pid, signal.SIGKILL)
            server.process.wait(120)
            server.after = f"killed VLLM::{word.removeprefix('VLLM::')}: server exited {server.process.returncode} after {time.monotonic() - began:.1f} s"
        elif name == "sigterm-with-request":
            stop_while_answering(server)
        elif name == "draining":
            ask_while_draining(server, load(f"runs/{name}.http.json"))
        elif name == "two-workers":
            with open(os.path.join(OUT, "runs/two-workers.processes.txt"), "w") as file:
                file.write(recorded(server.tree(), server.port))
        elif name == "tls":
            secure = subprocess.run(["curl", "-sk", "-o", "/dev/null", "-w", "%{http_code}", f"https://127.0.0.1:{server.port}/health"],
                                    capture_output=True, text=True, check=False)
            plain = subprocess.run(["curl", "-s", f"http://127.0.0.1:{server.port}/health"], capture_output=True, check=False)
            save("runs/tls.http.json", [{"https": secure.stdout, "http_exit": plain.returncode}])
        elif os.path.exists(os.path.join(SOURCE, "runs", name + ".http.json")):
            requests_of(server, load(f"runs/{name}.http.json"), name)


def stop_while_answering(server):
    body = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 480, "temperature": 0,
            "ignore_eos": True, "stream": True}
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=90)
    began = time.monotonic()
    connection.request("POST", "/v1/chat/completions", json.dumps(body), {"Content-Type": "application/json", "Connection": "close"})
    answer = connection.getresponse()
    text = answer.read(2000)
    stopping = threading.Thread(target=server.stop)
    stopping.start()
    fact = {"request": ["POST", "/v1/chat/completions", body], "status": answer.status}
    try:
        text += answer.read()
    except (OSError, http.client.HTTPException) as error:
        fact["error"] = repr(error)
    fact.update(body=text.decode()[-2000:], seconds=round(time.monotonic() - began, 2))
    stopping.join()
    save("runs/sigterm-with-request.http.json", [fact, {"stopped_after_s": server.stopped, "exit": server.process.returncode}])
    server.after = "2 requests"


def ask_while_draining(server, old):
    """The first request takes long; the others come when TERM was sent and the engine drains."""
    facts = [{"request": entry["request"]} for entry in old]

    def fill(fact):
        try:
            answer = server.ask(*fact["request"])
            fact.update(status=answer.status, headers=answer.kept, body=answer.text[:4000], seconds=answer.took)
        except OSError as error:
            fact.update(error=repr(error))

    long = threading.Thread(target=fill, args=(facts[0],))
    long.start()
    server.until(lambda: re.search(r"num_requests_running{.*} [1-9]", server.ask("GET", "/metrics").text))
    stopping = threading.Thread(target=server.stop)
    stopping.start()
    server.until(lambda: "draining in-flight requests" in server.text())
    for fact in facts[1:]:
        fill(fact)
    long.join()
    stopping.join()
    save("runs/draining.http.json", facts)
    server.after = f"{len(facts)} requests"


def releases():
    """The recorded releases, newest first."""
    names = [name for name in os.listdir(FACTS) if re.fullmatch(r"\d+(\.\d+)+", name)]
    return sorted(names, key=lambda name: [int(number) for number in name.split(".")], reverse=True)


def source():
    """The folder that says what to run: the newest whole one, another than is written where there is one."""
    whole = [r for r in releases() if all(os.path.exists(os.path.join(FACTS, r, name)) for name in ("http.json", "failures", "runs"))]
    return os.path.join(FACTS, next(r for r in whole if r != RELEASE or whole == [RELEASE]))


def load(name):
    with open(os.path.join(SOURCE, name)) as file:
        return json.load(file)


SOURCE = source()


def main():
    make_models()
    os.makedirs(full)
    disk = os.geteuid() == 0 and subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", full], check=False).returncode == 0
    jobs = {"serve": (record_start, load("serve.json")), "serve-eager": (record_start, load("serve-eager.json"))}
    for kind, record in ("failures", record_failure), ("more", record_failure), ("runs", record_run):
        for path in sorted(glob.glob(os.path.join(SOURCE, kind, "*.json"))):
            name = kind + "/" + os.path.basename(path).removesuffix(".json")
            if not name.endswith(".http"):
                jobs[name] = (record, load(name + ".json"))
    if not disk and jobs.pop("failures/disk-full", None):
        print("failures/disk-full: not recorded, it takes root to make a full disk")
    try:
        os.makedirs(OUT, exist_ok=True)
        if not ONLY or "flags" in ONLY:
            record_flags()
        for name, (record, old) in jobs.items():
            if not ONLY or name in ONLY:
                record(old, os.path.basename(name))
    finally:
        if disk:
            subprocess.run(["umount", full], check=False)
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
