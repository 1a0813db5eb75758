"""A GRU that reads digits row by row: trained, converted exactly, and run as a stream with a state.

python examples/recurrent_stream.py
"""

import torch
from digits_net import digits
from torch import Tensor, nn

import spikemorph as sm


class Rows(nn.Module):
    """A GRU over the eight rows of a digit, and a read-out of its last state."""

    def __init__(self) -> None:
        super().__init__()
        self.gru = nn.GRU(8, 24, batch_first=True)
        self.head = nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        """(sample, 8, 8) to (sample, 10)."""
        states, _ = self.gru(x)
        return self.head(states[:, -1])


def trained(x: Tensor, y: Tensor, epochs: int = 12) -> Rows:
    """A few seconds of training."""
    torch.manual_seed(0)
    model = Rows()
    optimizer = torch.optim.Adam(model.parameters(), 0.01)
    for _ in range(epochs):
        for part in torch.randperm(len(x)).split(64):
            loss = nn.functional.cross_entropy(model(x[part]), y[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return model.eval()


def main() -> None:
    """Convert, measure, and go on from a saved state in the middle of a digit."""
    (x, y), (test_x, test_y) = digits("train"), digits("test")
    rows, test_rows = x.squeeze(1), test_x.squeeze(1)
    snn = sm.to_snn(trained(rows, y), rows, levels=32, carry="delta", input_range=(0.0, 1.0))
    print(snn)  # ... certificate A: equals its integer network after 12 steps an element
    print(snn.evaluate(test_rows[:100], test_y[:100]))

    stream = snn.stream()
    state = stream.start(samples=3)
    for row in range(8):
        if row == 4:
            state.save("state.safetensors")
            state = stream.load("state.safetensors")
        pushed = stream.push(test_rows[:3, row], state)
        state = pushed.state
        print(row, pushed.real.argmax(1).tolist(), int(pushed.trace.spikes().sum()), "spikes")
    print("whole digits:", snn(test_rows[:3]).argmax(1).tolist())


if __name__ == "__main__":
    main()
