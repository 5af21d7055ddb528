"""python -m unittest: what must hold before hours are spent on it. Takes seconds, needs no data."""
import json
import random
import unittest

import torch

import data
import gateway
from evaluate import Labels, Session, extract
import mixture
from export import hub_state, pack
from mixture import Mixture, MixtureConfig
from model import Config, Pocket
from names import words
from prepare import train_tokenizer

NAMES = {  # the Swift side is tested with the same
    "GetWeather": "get weather", "alarm_query": "alarm query", "timeRange": "time range", "HTTPError2": "http error2",
    "iot_hue_lightoff": "iot hue lightoff", "party size": "party size", "serial-number": "serial number",
    "plant/line.3": "plant line 3", "sensor2Value": "sensor2 value", "__id__": "id", "PLC": "plc", "": "",
}


def small():
    r = random.Random(3)
    tokenizer = train_tokenizer([gateway.message(r)[0] for _ in range(300)], 400)
    torch.manual_seed(0)
    return data.Pieces(tokenizer), Pocket(Config(vocab=400, hidden=64, layers=2, heads=4, kv_heads=2, ffn=64, context=512)).eval()


def causal(n):
    return torch.full((n, n), -torch.inf).triu(1)[None, None]


class TrainingTest(unittest.TestCase):
    def test_names_become_words(self):
        for name, expected in NAMES.items():
            self.assertEqual(words(name), expected, name)

    def test_special_tokens_have_the_first_ids(self):
        pieces, _ = small()
        self.assertEqual([pieces.end, pieces.classify, pieces.extract, pieces.text, pieces.answer], [0, 1, 2, 3, 4])

    def test_a_label_is_spelt_alike_in_list_and_answer(self):
        pieces, _ = small()
        listed = pieces.ids("machine stopped|door open")
        self.assertEqual(listed, pieces.ids("machine stopped") + pieces.ids("|") + pieces.ids("door open"))

    def test_spans_of_generated_messages_are_what_they_say(self):
        r = random.Random(1)
        for _ in range(500):
            text, kind, spans = gateway.message(r)
            self.assertIn(kind, gateway.LABELS)
            self.assertNotIn("{", text)
            for field, a, b in spans:
                self.assertTrue(text[a:b].strip() == text[a:b] != "", (text, field))

    def test_extraction_answer_is_json_and_copies_the_text(self):
        pieces, _ = small()
        text = "pump 7 leaks in hall 3"
        ids, weights = data.extract_branch(pieces, text, ["machine", "place", "value"], {"machine": (0, 6), "place": (16, 22)})
        self.assertEqual(len(ids), len(weights))
        start = ids.index(pieces.answer) + 1
        answer = json.loads(pieces.tokenizer.decode(ids[start:-1]))
        self.assertEqual(answer, {"machine": "pump 7", "place": " hall 3", "value": None})
        joined, part = ",".join(map(str, pieces.ids(text))), ",".join(map(str, pieces.value(text, 16, 22)))
        self.assertIn(part, joined)

    def test_a_branch_computes_what_it_would_alone(self):
        pieces, model = small()
        head = pieces.head("classify", ["leak", "fire", "door"])
        branches = [data.classify_branch(pieces, t, l)[0] for t, l in (("smoke in hall 3", "fire"), ("pump 7 drips", "leak"))]
        ids, positions, branch = list(head), list(range(len(head))), [0] * len(head)
        for n, b in enumerate(branches, 1):
            ids, branch = ids + b, branch + [n] * len(b)
            positions += range(len(head), len(head) + len(b))
        from train import attention_bias
        bias = attention_bias(torch.zeros(1, len(ids), dtype=torch.int16), torch.tensor([branch]), torch.float32)
        with torch.no_grad():
            together = model(torch.tensor([ids]), torch.tensor([positions]), bias)[0]
            at = len(head)
            for b in branches:
                n = len(head) + len(b)
                alone = model(torch.tensor([head + b]), torch.arange(n)[None], causal(n))[0, len(head):]
                torch.testing.assert_close(together[at:at + len(b)], alone, rtol=1e-3, atol=1e-3)
                at += len(b)

    def test_feeding_in_parts_is_feeding_at_once(self):
        pieces, model = small()
        ids = pieces.head("extract", ["machine"]) + pieces.body("pump 7 leaks")
        with torch.no_grad():
            whole = model.logits(model(torch.tensor([ids]), torch.arange(len(ids))[None], causal(len(ids)))[0, -1]).log_softmax(-1)
            session = Session(model)
            session.feed(ids[:3])
            torch.testing.assert_close(session.feed(ids[3:]), whole, rtol=1e-3, atol=1e-3)

    def test_decoding_only_offers_what_is_there(self):
        pieces, model = small()
        text = "pump 7 leaks in hall 3"
        with torch.no_grad():
            self.assertIn(Labels(pieces, ["leak", "fire"]).choose(model, text), ("leak", "fire"))
            for value in extract(model, pieces, text, ["machine", "place"]).values():
                self.assertIn(value, text)

    def test_tokens_of_a_mixture_get_what_their_experts_make(self):
        torch.manual_seed(0)
        model = Mixture(MixtureConfig(vocab=400, hidden=64, layers=1, heads=4, kv_heads=2, ffn=32, context=64, experts=5)).eval()
        experts, x = model.blocks[0].experts, torch.randn(9, 64)
        with torch.no_grad():
            together = experts(x)
            for i in range(9):
                scores = (experts.router @ x[i]).softmax(-1)
                best = scores.topk(2)
                alone = sum(s / best.values.sum() * experts.down[e] @ (torch.nn.functional.silu(experts.gate[e] @ x[i]) * (experts.up[e] @ x[i]))
                            for s, e in zip(best.values, best.indices))
                torch.testing.assert_close(together[i], alone, rtol=1e-4, atol=1e-5)
        names = mixture.hub_state(model)
        self.assertEqual(names["model.layers.0.block_sparse_moe.experts.4.w2.weight"].shape, (64, 32))

    def test_packing_can_be_undone(self):
        _, model = small()
        state = hub_state(model)
        packed, scale = state["model.layers.0.mlp.up_proj.weight"], state["model.layers.0.mlp.up_proj.weight_scale"]
        t = torch.cat([((packed >> 2 * i) & 3).float() - 1 for i in range(4)])
        model.settle()
        torch.testing.assert_close(t * scale, model.blocks[0].up.data)
        self.assertTrue(torch.equal(pack(t), packed))


if __name__ == "__main__":
    unittest.main()
