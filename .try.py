import sys, time, shutil, os
from pathlib import Path
import numpy as np, torch, vmr
sys.path.insert(0,".")
from tests.video_matrix import X264, Recipe, write_video
from vmr.models.encoder import IMAGENET_MEAN, IMAGENET_STD
from vmr.retrieval.updating.update import update_index, add_videos, remove_videos
from vmr.retrieval.storage.verify import verify
class Two:
    name, about, embed_dim = "two", "by hand", 2
    preprocess = vmr.Preprocess(1, 16, "stretch", IMAGENET_MEAN, IMAGENET_STD)
    fingerprint = "f" * 16
    def encode_video(self, video):
        mean = video.float().mean(dim=(1, 3, 4))
        return torch.nn.functional.normalize(mean[:, [0, 2]], dim=1)
    def encode_text(self, texts):
        return torch.tensor([[float(number) for number in text.split()] for text in texts])
tmp=Path("/tmp/wt-update-try"); shutil.rmtree(tmp, ignore_errors=True); v=tmp/"v"; (v/"sub").mkdir(parents=True)
def coloured(c):
    def store(p):
        p=np.zeros_like(p); p[...,c]=255; return p
    return store
write_video(v/"sub"/"blue.mp4", Recipe(options=X264, stored=coloured(2)),32,192)
p=write_video(v/"red.mkv", Recipe(options=X264, stored=coloured(0), suffix=".mkv"),32,192)
(v/"empty.mp4").write_bytes(b""); (v/"notes.txt").write_text("a")
for f in v.rglob("*"):
    if f.is_file(): os.utime(f,(1e9,1e9))
D=vmr.DecodeOptions(num_workers=1)
def up(**k):
    t=time.time(); u=update_index(v, tmp/"i", Two(), window_s=2, decode=D, **k); print(round(time.time()-t,2),u); print(verify(tmp/"i"), sorted(os.listdir(tmp/"i")))
up(); up()
(v/"red.mkv").rename(v/"sub"/"rouge.mkv"); shutil.copy(v/"sub"/"blue.mp4", v/"azur.mp4"); up()
os.utime(v/"azur.mp4"); up()
(v/"azur.mp4").unlink(); up()
print(add_videos(tmp/"i",[v/"empty.mp4"], Two())); print(remove_videos(tmp/"i",["*.mkv"]))
i=vmr.build_index(v,tmp/"i",Two(),window_s=2,decode=D); print(i.search("0 1",2), i.failures)
