BEGIN TRANSACTION;
CREATE TABLE judgements (
	id INTEGER NOT NULL, 
	kind VARCHAR NOT NULL, 
	video_a VARCHAR NOT NULL, 
	video_b VARCHAR NOT NULL, 
	dimension VARCHAR NOT NULL, 
	verdict VARCHAR NOT NULL, 
	judge VARCHAR NOT NULL, 
	judge_version VARCHAR NOT NULL, 
	shown_left VARCHAR NOT NULL, 
	reason VARCHAR, 
	created DATETIME NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(video_a) REFERENCES videos (id), 
	FOREIGN KEY(video_b) REFERENCES videos (id)
);
INSERT INTO "judgements" VALUES(1,'pairwise','v0','v1','VQ','a','ann','1','a','sharper','2026-11-21 17:16:48.645823');
INSERT INTO "judgements" VALUES(2,'pairwise','v1','v0','MQ','tie','bob','1','a',NULL,'2026-11-21 17:16:48.645852');
CREATE TABLE meta (
	"key" VARCHAR NOT NULL, 
	value VARCHAR NOT NULL, 
	PRIMARY KEY ("key")
);
INSERT INTO "meta" VALUES('schema_version','1');
INSERT INTO "meta" VALUES('model','tiny/wan');
CREATE TABLE prompts (
	id INTEGER NOT NULL, 
	text VARCHAR NOT NULL, 
	split VARCHAR NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (text, split)
);
INSERT INTO "prompts" VALUES(1,'a red square','train');
INSERT INTO "prompts" VALUES(2,'a blue disc','train');
CREATE TABLE videos (
	id VARCHAR NOT NULL, 
	prompt_id INTEGER NOT NULL, 
	generator VARCHAR NOT NULL, 
	adapter VARCHAR NOT NULL, 
	seed INTEGER NOT NULL, 
	"index" INTEGER NOT NULL, 
	settings JSON NOT NULL, 
	path VARCHAR NOT NULL, 
	latents VARCHAR, 
	latents_key VARCHAR, 
	fps DOUBLE NOT NULL, 
	num_frames INTEGER NOT NULL, 
	height INTEGER NOT NULL, 
	width INTEGER NOT NULL, 
	created DATETIME NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(prompt_id) REFERENCES prompts (id)
);
INSERT INTO "videos" VALUES('u',1,'tiny/wan@abc','',7,0,'{"steps": 10}','videos/u.mp4','latents/0.safetensors','u',8.0,9,32,32,'2026-11-21 17:16:48.621830');
INSERT INTO "videos" VALUES('v0',2,'tiny/wan@abc','',7,0,'{"steps": 10}','videos/v0.mp4','latents/0.safetensors','v0',8.0,9,32,32,'2026-11-21 17:16:48.621876');
INSERT INTO "videos" VALUES('v1',2,'tiny/wan@abc','',8,1,'{"steps": 10}','videos/v1.mp4','latents/0.safetensors','v1',8.0,9,32,32,'2026-11-21 17:16:48.621910');
CREATE INDEX ix_prompts_split ON prompts (split);
CREATE INDEX ix_videos_prompt_id ON videos (prompt_id);
CREATE INDEX ix_judgements_video_a ON judgements (video_a);
CREATE INDEX ix_judgements_video_b ON judgements (video_b);
CREATE INDEX ix_judgements_dimension ON judgements (dimension);
COMMIT;
